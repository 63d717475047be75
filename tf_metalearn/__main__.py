"""`python -m tf_metalearn` is `tf-metalearn`."""

from tf_metalearn.cli import main

if __name__ == "__main__":
    main(prog_name="tf-metalearn")
