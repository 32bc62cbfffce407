// `flexins run` without the rest of `flexins`: flexins_run PROGRAM ARGUMENTS

#include "cli/run.h"

int main(int argc, char** argv) {
  flexins::cli::RunOptions options;
  options.arguments.assign(argv + 1, argv + argc);
  return flexins::cli::run_command(options);
}
