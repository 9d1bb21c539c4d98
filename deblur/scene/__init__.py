"""A scene to film and a camera that moves: blurred frames whose truth is known, and no file from outside."""

from deblur.scene.camera import Camera, DemoSequence, moving_view
from deblur.scene.shelf import make_scene

__all__ = ["Camera", "DemoSequence", "make_scene", "moving_view"]
