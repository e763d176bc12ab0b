"""How a dashboard speaks to the page that shows it: textual's driver, that also leaves when nobody listens any more."""

from textual import messages
from textual.drivers.web_driver import WebDriver


class LeavingDriver(WebDriver):
    """Ends the dashboard when `fednode web` was killed, which closes our input and says nothing."""

    def run_input_thread(self) -> None:
        """Dispatch input until there is none."""
        super().run_input_thread()
        self._app.post_message(messages.ExitApp())
