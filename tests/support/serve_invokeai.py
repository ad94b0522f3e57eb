"""Starts the real InvokeAI on a machine without a GPU: `python serve.py --root ROOT`; ROOT/invokeai.yaml says where."""
# mypy: ignore-errors

import operators
import vacuum

if __name__ == "__main__":
    operators.declare()
    vacuum.take_turns()
    from invokeai.app.run_app import run_app

    run_app()
