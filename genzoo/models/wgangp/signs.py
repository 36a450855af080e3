"""The monitor's rules of a generator without an encoder: nothing reconstructs, so other options help."""

from genzoo.signs import LEARNING_RATE, SAMPLES_ALIKE, Rule, one_image

RULES = (Rule(SAMPLES_ALIKE, one_image, "lower train.lr, or raise objective.n_critic", (LEARNING_RATE,)),)
