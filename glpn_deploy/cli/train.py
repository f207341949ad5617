"""glpn-train: a data set in, a checkpoint in HF's format out."""

from __future__ import annotations

from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.optional import needs
from glpn_deploy.training.options import TrainOptions


def train(options: TrainOptions, as_json: JsonOption = False) -> None:
    """Train GLPN by the paper's recipe, or by your own.

    Defaults are the paper's: Adam, batch 12, 25 epochs, learning rate 3e-5 to 1e-4 and back, SiLog loss,
    Vertical CutDepth on a quarter of the samples. OUT/best is the checkpoint of the epoch with the
    lowest AbsRel, OUT/final the last one; both are in Hugging Face's format.

    Stopped or killed, a run goes on by itself when the same command is given again, at the same loss
    curve. Exit status: 0 done, 1 stopped or diverged, 2 wrong use.

    Paper: glpn-train nyu runs/nyu --data-path NYU --start nvidia/mit-b4

    No data: glpn-train rooms runs/rooms --config demo --cache cache --lr 1e-3
    """
    from glpn_deploy.cli.console import output, print_json, runnable, say_next

    with needs("training", "train"):
        from glpn_deploy.training.trainer import train as run
    console = output(as_json=as_json)
    result = run(options)
    if as_json:
        print_json(
            {
                "best": str(result.best),
                "final": str(result.final),
                "steps": result.steps,
                "seconds": round(result.seconds, 1),
                "parameters": result.parameters,
                "metrics": result.metrics,
            }
        )
    where = "" if options.path is None else f" --data-path {options.path}"
    say_next(
        console,
        f"{runnable('glpn-eval')} {result.best} --dataset {options.dataset}{where}",
        f"{runnable('glpn-export')} {result.best}",
    )


main = command(train)

if __name__ == "__main__":
    main()
