"""The rows of the results on language models: what each trains, and how it is measured."""

import dataclasses
from pathlib import Path

import keras

import tf_terngrad as tt
from models.language_training import LanguageTrainer, at_rest
from models.lstm_lm import lstm_lm
from models.text import Text

LEARNING_RATE = 1.0
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        name: of the row and of its folder.
        units: of each recurrent layer.
        dropout: of the model.
        strength: of the group lasso on hidden units; 0: none.
        sizes_of: the name of a row whose sizes this one has from the start, instead of `units`.
        layer: the recurrent layers' class.
    """

    name: str
    units: tuple[int, ...] = (300, 300)
    dropout: float = 0.3
    strength: float = 0.0
    sizes_of: str | None = None
    layer: type[keras.layers.RNN] = keras.layers.LSTM


ROWS = (
    Row("lstm-dense"),
    Row("lstm-iss", dropout=0.2, strength=0.004),
    Row("lstm-direct", dropout=0.2, sizes_of="lstm-iss"),
    Row("gru-dense", layer=keras.layers.GRU),
    Row("gru-iss", dropout=0.2, strength=0.004, layer=keras.layers.GRU),
)


def train(row: Row, text: Text, epochs: int, folder: Path) -> keras.Model:
    """The row's model as it is shipped, kept in the folder; trained if it is not there yet."""
    final = folder / row.name / "final.keras"
    if final.exists():
        return keras.models.load_model(final, compile=False)
    units, embedding = row.units, row.units[0]
    if row.sizes_of is not None:
        other = next(other for other in ROWS if other.name == row.sizes_of)
        units = hidden(train(other, text, epochs, folder))
    (folder / row.name).mkdir(parents=True, exist_ok=True)
    trainer = LanguageTrainer(folder / row.name, text)
    keras.utils.set_random_seed(0)
    model = lstm_lm(
        len(text.words), units, embedding, row.dropout, batch_size=trainer.rows, stateful=True, layer=row.layer
    )
    monitor = ()
    if row.strength:
        tt.sparsify(model, strength=row.strength, kinds=["hidden"])
        monitor = (tt.callbacks.SparsityMonitor(),)
    trainer.fit(model, "model", epochs, LEARNING_RATE, monitor)
    model.save(folder / row.name / "trained.keras")
    small = tt.compact(model, tolerance=TOLERANCE) if row.strength else model
    at_rest(small).save(final)
    return keras.models.load_model(final, compile=False)


def hidden(model: keras.Model) -> tuple[int, ...]:
    """The units of a model's recurrent layers."""
    return tuple(layer.units for layer in model.layers if isinstance(layer, keras.layers.RNN))
