"""Tiny networks of transformers for detection and segmentation, and a small COCO-style set, with random weights."""

import json

import numpy as np
import torch
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessorPil,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    ResNetConfig,
    SwinConfig,
)

from seesr_pl.imaging.io import write_image

THINGS, STUFF = {1: "cat", 3: "dog"}, {7: "sky-other"}
LABELS = {0: "Cat", 1: "dog", 2: "sky-other", 3: "nothing of the set"}
SIZE = {"height": 64, "width": 64}


def save_detector(folder):
    """A DETR with a ResNet backbone."""
    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", out_features=["stage2"]
    )
    config = DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=8,
        id2label=LABELS,
        label2id={name: label for label, name in LABELS.items()},
    )
    DetrForObjectDetection(config).save_pretrained(folder)
    DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    return folder


def save_segmenter(folder):
    """A Mask2Former with a Swin backbone that is sure of its segments."""
    torch.manual_seed(1)
    backbone = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=6,
        train_num_points=16,
        id2label=LABELS,
        label2id={name: label for label, name in LABELS.items()},
    )
    network = Mask2FormerForUniversalSegmentation(config)
    # Untrained, every class is as likely: no segment would pass the threshold.
    network.class_predictor.weight.data *= 40
    network.save_pretrained(folder)
    Mask2FormerImageProcessorPil(size=SIZE, ignore_index=255).save_pretrained(folder)
    return folder


def save_set(folder, *, num_images=3):
    """Images of 96x64 with a cat, a dog and the sky, their boxes, masks and segments; return the folder."""
    instances, panoptic = [], []
    images = [{"id": 10 + i, "file_name": f"{i:03}.jpg", "width": 96, "height": 64} for i in range(num_images)]
    for number, image in enumerate(images):
        generator = np.random.default_rng(number)
        pixels = np.full((64, 96, 3), (120, 160, 220), np.uint8)
        segments = np.full((64, 96), 9)
        for part, (category, color) in enumerate({1: (200, 90, 30), 3: (60, 40, 20)}.items(), start=1):
            x, y, width, height = 4 + 44 * (part - 1) + int(generator.integers(8)), 12, 30, 36
            pixels[y : y + height, x : x + width] = color
            segments[y : y + height, x : x + width] = part
            box = [x, y, width, height]
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            facts = {"area": width * height, "iscrowd": 0, "bbox": box, "category_id": category}
            instances.append({"id": len(instances) + 1, "image_id": image["id"], "segmentation": [corners], **facts})
        parts = [{"id": 1, "category_id": 1}, {"id": 2, "category_id": 3}, {"id": 9, "category_id": 7}]
        panoptic.append({"image_id": image["id"], "file_name": f"{number:03}.png", "segments_info": parts})
        colors = np.stack([segments, np.zeros_like(segments), np.zeros_like(segments)], -1).astype(np.uint8)
        for path, written in ((folder / "images" / image["file_name"], pixels), (_png(folder, number), colors)):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, written)
    categories = [{"id": key, "name": name, "isthing": 1} for key, name in THINGS.items()]
    stuff = [{"id": key, "name": name, "isthing": 0} for key, name in STUFF.items()]
    for name, annotations, known in (("instances", instances, categories), ("panoptic", panoptic, categories + stuff)):
        content = {"images": images, "annotations": annotations, "categories": known}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def _png(folder, number):
    return folder / "panoptic" / f"{number:03}.png"
