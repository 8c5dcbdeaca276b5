"""Runs the module of the same name. While the server catches up, runs it again and again and shows the progress: a module shows nothing
before it ends."""

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

MODULE = "backstop.mysql.backstop_join"


class ActionModule(ActionBase):
    """A step of joining."""

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Runs the step to its end. The module bounds each wait, also over several runs."""
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        while True:
            ran = self._execute_module(module_name=MODULE, module_args=args, task_vars=task_vars)
            progress = ran.get("progress")
            if not progress:
                return {**result, **ran}
            Display().display("PROGRESS: " + progress["said"])
            args["continued"] = progress
