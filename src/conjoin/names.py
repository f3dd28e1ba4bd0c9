"""The names that plans and the command line know, read without loading what they stand for."""

from __future__ import annotations

GERMAN_CREDIT = "german_credit"
SHIPPED_DATA = {
    "fashion_mnist": "1,000 test images of Fashion-MNIST",
    "fashion_mnist_train": "2,000 training images of Fashion-MNIST",
    "marked_fashion_mnist": "the test images with a mark that tells the class of 95 % "
    "(marked_fashion_mnist:0.5 for another rate)",
    GERMAN_CREDIT: "300 applicants for a loan, a table of 20 attributes",
}
FASHION_MODELS = ("plain", "shortcut", "adversarial", "certified")  # what an audit is of by default
SHIPPED_MODELS = (*FASHION_MODELS, "credit_mlp")
IMAGENET_MODELS = ("efficientnet_lite0",)  # their weights are packages of their own: extra imagenet
NORMS = ("linf", "l2", "l1")
FROM_PYTHON = "python:"  # before the name of a model or of data that a plan cannot load
