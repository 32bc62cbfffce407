"""Events of completion queues and of the device, as events_check/ asks for them.

Port events are in control.py; what comes when the engine dies is in failures.py."""

from programs import Case


class Notifications(Case):
    """On one engine."""

    def check(self, cases):
        self.assertIn("every event is right", self.run_alone("events_check", cases, seconds=90))

    def test_completion(self):
        self.check("completion")

    def test_destruction(self):
        self.check("destruction")

    def test_async(self):
        self.check("async")


GROUPS = {"notifications": Notifications}
