#include "sim/shrink.h"

#include <algorithm>

namespace flexins::sim {

namespace {

/// Takes what it is given if it breaks the same invariant.
class Shrinker {
 public:
  Shrinker(const Scenario& scenario, const Report& report, const std::function<bool()>& keep_trying)
      : best_{scenario, report, 0}, keep_trying_(keep_trying) {}

  bool accept(const Scenario& smaller) {
    if (!keep_trying_()) return false;
    ++best_.attempts;
    Report report = simulate(smaller);
    const bool same = report.violation.has_value() &&
                      report.violation->invariant == best_.report.violation->invariant;
    if (!same) return false;
    best_.scenario = smaller;
    best_.report = std::move(report);
    return true;
  }
  [[nodiscard]] const Scenario& best() const { return best_.scenario; }
  [[nodiscard]] Shrunk& result() { return best_; }

 private:
  Shrunk best_;
  const std::function<bool()>& keep_trying_;
};

void shrink_faults(Shrinker& shrinker) {
  for (size_t kind = 0; kind < kFaultKinds; ++kind) {
    if (shrinker.best().faults.rate[kind] == 0) continue;
    Scenario smaller = shrinker.best();
    smaller.faults.rate[kind] = 0;
    shrinker.accept(smaller);
  }
}

/// Halves a number as long as it goes, then takes one by one.
template <typename Number>
void shrink_number(Shrinker& shrinker, Number Scenario::*member, Number least) {
  while (shrinker.best().*member > least) {
    Scenario smaller = shrinker.best();
    smaller.*member = std::max<Number>(least, smaller.*member / 2);
    if (shrinker.accept(smaller)) continue;
    smaller.*member = shrinker.best().*member - 1;
    if (!shrinker.accept(smaller)) return;
  }
}

}  // namespace

Shrunk shrink(const Scenario& scenario, const Report& report,
              const std::function<bool()>& keep_trying) {
  Shrinker shrinker(scenario, report, keep_trying);
  // What came after the violation is not missed.
  Scenario smaller = scenario;
  smaller.operations_max = std::min(scenario.operations_max, report.operations);
  shrinker.accept(smaller);
  shrink_faults(shrinker);
  shrink_number(shrinker, &Scenario::connections, 1u);
  shrink_number(shrinker, &Scenario::applications, 1u);
  shrink_number(shrinker, &Scenario::hosts, 1u);
  shrink_number(shrinker, &Scenario::operations_max, uint64_t{1});
  shrink_faults(shrinker);
  return shrinker.result();
}

}  // namespace flexins::sim
