#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"

/* A plain libibverbs program that checks what events a device raises; its argument is one of the
   names below. Ends with 0 and says "every event is right" where it is so. */

enum { kPatienceSeconds = 60 };

static const struct {
  const char* name;
  void (*run)(struct device*);
} cases[] = {
    {"completion", run_completion_cases},
    {"destruction", run_destruction_cases},
    {"async", run_async_cases},
};

int main(int count, char** words) {
  alarm(kPatienceSeconds); /* what waits for an event that does not come never ends */
  for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
    if (count != 2 || strcmp(words[1], cases[i].name) != 0) continue;
    struct device device;
    open_device(&device);
    cases[i].run(&device);
    close_device(&device);
    puts("every event is right");
    return 0;
  }
  fprintf(stderr, "usage: %s completion|destruction|async\n", words[0]);
  return 2;
}
