"""An app's own blocks, as Gradio's guide to OAuth has them, and an event that takes its time."""

from __future__ import annotations

import time
from collections.abc import Iterator

import gradio as gr


def greet(request: gr.Request) -> str:
    """Greet the user."""
    return f"Welcome to Gradio, {request.username}"


def count() -> Iterator[str]:
    """Count for ten minutes."""
    for second in range(600):
        yield f"Counted to {second}"
        time.sleep(1)


with gr.Blocks() as login_demo:
    gr.Button("Login", link="/login")

with gr.Blocks() as main_demo:
    greeting = gr.Markdown("Welcome to Gradio!")
    counter = gr.Markdown()
    gr.Button("Count").click(count, None, counter)
    gr.Button("Logout", link="/logout")
    main_demo.load(greet, None, greeting)
