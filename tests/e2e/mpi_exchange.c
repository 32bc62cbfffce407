/* Ranks exchange data in a ring, all to all and one-sided, and check every byte of it. Ends with 0
   and says "every byte is right" where it is so. */

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kRounds = 3, kSizes = 5, kAllToAllBytes = 20000, kWindowBytes = 65536 };
static const int sizes[kSizes] = {1, 100, 9000, 70000, 1 << 20};

static unsigned char pattern(int from, int to, int round, int index) {
  return (unsigned char)(from * 131 + to * 31 + round * 17 + index * 7 + index / 251);
}

static void fill(unsigned char* bytes, int count, int from, int to, int round) {
  for (int i = 0; i < count; ++i) bytes[i] = pattern(from, to, round, i);
}

static void check(const unsigned char* bytes, int count, int from, int to, int round,
                  const char* what) {
  for (int i = 0; i < count; ++i) {
    if (bytes[i] == pattern(from, to, round, i)) continue;
    fprintf(stderr, "%s: byte %d of %d from rank %d is wrong at rank %d\n", what, i, count, from,
            to);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
}

static void ring(int rank, int ranks) {
  const int next = (rank + 1) % ranks, previous = (rank + ranks - 1) % ranks;
  unsigned char* out = malloc(sizes[kSizes - 1]);
  unsigned char* in = malloc(sizes[kSizes - 1]);
  for (int round = 0; round < kRounds; ++round) {
    for (int s = 0; s < kSizes; ++s) {
      fill(out, sizes[s], rank, next, round);
      memset(in, 0, sizes[s]);
      MPI_Sendrecv(out, sizes[s], MPI_BYTE, next, s, in, sizes[s], MPI_BYTE, previous, s,
                   MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      check(in, sizes[s], previous, rank, round, "ring");
    }
  }
  free(out);
  free(in);
}

static void all_to_all(int rank, int ranks) {
  unsigned char* out = malloc((size_t)ranks * kAllToAllBytes);
  unsigned char* in = calloc(ranks, kAllToAllBytes);
  for (int round = 0; round < kRounds; ++round) {
    for (int to = 0; to < ranks; ++to) {
      fill(out + (size_t)to * kAllToAllBytes, kAllToAllBytes, rank, to, round);
    }
    MPI_Alltoall(out, kAllToAllBytes, MPI_BYTE, in, kAllToAllBytes, MPI_BYTE, MPI_COMM_WORLD);
    for (int from = 0; from < ranks; ++from) {
      check(in + (size_t)from * kAllToAllBytes, kAllToAllBytes, from, rank, round, "all to all");
    }
  }
  free(out);
  free(in);
}

static void one_sided(int rank, int ranks) {
  const int next = (rank + 1) % ranks, previous = (rank + ranks - 1) % ranks;
  unsigned char *window = NULL, *own = malloc(kWindowBytes);
  long* counter = NULL;
  MPI_Win bytes, count;
  MPI_Win_allocate(kWindowBytes, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &window, &bytes);
  MPI_Win_allocate(sizeof *counter, sizeof *counter, MPI_INFO_NULL, MPI_COMM_WORLD, &counter,
                   &count);
  *counter = 0;
  MPI_Barrier(MPI_COMM_WORLD);
  MPI_Win_fence(0, bytes);
  fill(own, kWindowBytes, rank, next, 0);
  MPI_Put(own, kWindowBytes, MPI_BYTE, next, 0, kWindowBytes, MPI_BYTE, bytes);
  MPI_Win_fence(0, bytes);
  check(window, kWindowBytes, previous, rank, 0, "put");

  const long one = 1;
  MPI_Win_lock_all(0, count);
  for (int to = 0; to < ranks; ++to) {
    long before;
    MPI_Fetch_and_op(&one, &before, MPI_LONG, to, 0, MPI_SUM, count);
    MPI_Win_flush(to, count);
  }
  MPI_Win_unlock_all(count);
  MPI_Barrier(MPI_COMM_WORLD);
  if (*counter != ranks) {
    fprintf(stderr, "rank %d counted %ld\n", rank, *counter);
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Win_free(&bytes);
  MPI_Win_free(&count);
  free(own);
}

int main(int argc, char** argv) {
  int rank, ranks;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  ring(rank, ranks);
  all_to_all(rank, ranks);
  if (argc > 1) one_sided(rank, ranks);
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) printf("%d ranks: every byte is right\n", ranks);
  MPI_Finalize();
  return 0;
}
