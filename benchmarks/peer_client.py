"""The same images by invokeai-py-client, in an environment of its own: `peer_client.py URL EXPORT POINTS FOLDER`.

EXPORT is a workflow as the editor writes it, with the fields that vary in its form; POINTS a list of their values, a
list a point. All items are submitted, then each is waited for with the library's own polling, and its images
downloaded. Prints the seconds it took.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path

from invokeai_py_client import InvokeAIClient
from invokeai_py_client.workflow import WorkflowDefinition


def main(url: str, export: str, points: str, folder: str) -> None:
    """See the module."""
    client = InvokeAIClient.from_url(url)
    definition = WorkflowDefinition.from_file(export)
    begun = time.perf_counter()
    waiting = []
    for values in json.loads(Path(points).read_text()):
        handle = client.workflow_repo.create_workflow(definition)
        for index, value in enumerate(values):
            handle.get_input_value(index).value = value
        handle.submit_sync()
        waiting.append(handle)
    for handle in waiting:
        item = handle.wait_for_completion_sync(timeout=600)
        for output in handle.map_outputs_to_images(item):
            for name in output["image_names"]:
                with urllib.request.urlopen(f"{url}/api/v1/images/i/{name}/full", timeout=120) as answer:
                    (Path(folder) / name).write_bytes(answer.read())
    print(time.perf_counter() - begun)


if __name__ == "__main__":
    main(*sys.argv[1:])
