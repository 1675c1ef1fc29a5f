"""What was published of joint search, to stand beside ours."""

PUBLISHED = {0.1: 2.2, 1.0: 10.6}  # times less EDP by loss of perplexity: its ch. 3
PUBLISHED_SOURCE = "UCB/EECS-2023-92"
PUBLISHED_FAMILY = "lm"  # of its Transformers, whose perplexity is on WikiText-2
