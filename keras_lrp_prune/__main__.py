"""`python -m keras_lrp_prune`: the command line."""

from keras_lrp_prune.cli import main

if __name__ == "__main__":
    main()
