"""Receptive fields of TFLite files: what depends on more than a neighbourhood is never taken for tileable."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from mobilesr_plugin.native_output import silenced_native_output
from mobilesr_plugin.upscaling.field_of_tflite import field_of_tflite
from mobilesr_plugin.upscaling.reach import NotTileableError


def float_file(function: Callable[[Any, Any], Any]) -> bytes:
    """A file for any size of ``function(tensorflow, image)``."""
    with silenced_native_output(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)])
        def run(image: Any) -> Any:
            return function(tf, image)

        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [run.get_concrete_function()], tf.Module()
        )
        return converter.convert()


def convolved(tf: Any, image: Any) -> Any:
    return tf.nn.conv2d(image, tf.ones([5, 5, 3, 3]) / 75, 1, "SAME")


def times_height(tf: Any, image: Any) -> Any:
    return convolved(tf, image) * tf.cast(tf.shape(image)[1], tf.float32)


def minus_a_corner(tf: Any, image: Any) -> Any:
    return convolved(tf, image) - tf.reshape(tf.strided_slice(image, [0, 0, 0, 0], [1, 1, 1, 3]), [3])


def to_one_size(tf: Any, image: Any) -> Any:
    return tf.compat.v1.image.resize_bilinear(image, [48, 48], half_pixel_centers=True)


def to_twice_the_size(tf: Any, image: Any) -> Any:
    size = 2 * tf.shape(image)[1:3]
    return tf.compat.v1.image.resize_bilinear(convolved(tf, image), size, half_pixel_centers=True)


def test_a_neighbourhood_is_told() -> None:
    assert field_of_tflite(float_file(convolved)).radius == 2
    assert field_of_tflite(float_file(to_twice_the_size)).radius == 3


@pytest.mark.parametrize("function", [times_height, minus_a_corner, to_one_size])
def test_what_depends_on_the_whole_image_is_refused(function: Callable[[Any, Any], Any]) -> None:
    content = float_file(function)
    with pytest.raises(NotTileableError):
        field_of_tflite(content)
