"""Transformers as people write them, whose attention learns where to look: an encoder, a ViT, a GPT by hand."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from laws import check_laws, difference, fresh_inputs, outputs_of, random_members, randomize, zero_members
from learned_masks import learn, masks

import tf_terngrad as tt

ALL = ["head", "offset"]


# The encoder of a text classifier


class TransformerBlock(layers.Layer):
    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1, **kwargs):
        super().__init__(**kwargs)
        self.att = tt.layers.SparseAttention(num_heads=num_heads, key_dim=embed_dim // num_heads, groups=ALL)
        self.ffn = keras.Sequential([layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)])
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1, self.dropout2 = layers.Dropout(rate), layers.Dropout(rate)

    def call(self, inputs, training=None):
        attn_output = self.dropout1(self.att(inputs, inputs), training=training)
        out1 = self.layernorm1(inputs + attn_output)
        return self.layernorm2(out1 + self.dropout2(self.ffn(out1), training=training))


class TokenAndPositionEmbedding(layers.Layer):
    def __init__(self, maxlen, vocab_size, embed_dim, **kwargs):
        super().__init__(**kwargs)
        self.token_emb = layers.Embedding(input_dim=vocab_size, output_dim=embed_dim)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=embed_dim)

    def call(self, x):
        positions = ops.arange(start=0, stop=ops.shape(x)[-1], step=1)
        return self.token_emb(x) + self.pos_emb(positions)


def classifier():
    inputs = layers.Input(shape=(12,), dtype="int32")
    x = TokenAndPositionEmbedding(12, 40, 16)(inputs)
    x = TransformerBlock(16, 4, 24)(x)
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.Dense(20, activation="relu")(x)))


# A vision transformer


class Patches(layers.Layer):
    def __init__(self, patch_size, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = patch_size

    def call(self, images):
        patches = ops.image.extract_patches(images, size=self.patch_size)
        return ops.reshape(patches, (-1, patches.shape[1] * patches.shape[2], patches.shape[3]))


class PatchEncoder(layers.Layer):
    def __init__(self, num_patches, projection_dim, **kwargs):
        super().__init__(**kwargs)
        self.num_patches = num_patches
        self.projection = layers.Dense(units=projection_dim)
        self.position_embedding = layers.Embedding(input_dim=num_patches, output_dim=projection_dim)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(start=0, stop=self.num_patches, step=1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)


def mlp(x, hidden_units, dropout_rate):
    for units in hidden_units:
        x = layers.Dropout(dropout_rate)(layers.Dense(units, activation=keras.activations.gelu)(x))
    return x


def vit():
    inputs = keras.Input(shape=(12, 12, 3))
    encoded_patches = PatchEncoder(9, 16)(Patches(4)(inputs))
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(encoded_patches)
        attention_output = tt.layers.SparseAttention(4, 4, dropout=0.1, groups=["block", "head"], block=3)(x1, x1)
        x2 = layers.Add()([attention_output, encoded_patches])
        x3 = mlp(layers.LayerNormalization(epsilon=1e-6)(x2), hidden_units=[32, 16], dropout_rate=0.1)
        encoded_patches = layers.Add()([x3, x2])
    representation = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(encoded_patches))
    return keras.Model(inputs, layers.Dense(5)(mlp(layers.Dropout(0.5)(representation), [24], 0.5)))


# A GPT, written by hand, with one projection for queries, keys and values


class CausalSelfAttention(layers.Layer):
    def __init__(self, n_embd, n_head, block_size, **kwargs):
        super().__init__(**kwargs)
        self.c_attn, self.c_proj = layers.Dense(3 * n_embd), layers.Dense(n_embd)
        self.n_head, self.n_embd, self.block_size = n_head, n_embd, block_size
        self.softmax = tt.layers.AttentionMask(groups=ALL)

    def call(self, x):
        qkv = ops.reshape(self.c_attn(x), (-1, self.block_size, 3, self.n_head, self.n_embd // self.n_head))
        q, k, v = (ops.squeeze(part, 0) for part in ops.split(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3))
        att = ops.matmul(q, ops.swapaxes(k, -2, -1)) * (1.0 / (self.n_embd // self.n_head) ** 0.5)
        att = self.softmax(att, allowed=ops.tril(ops.ones((self.block_size, self.block_size))) > 0)
        y = ops.reshape(ops.transpose(ops.matmul(att, v), (0, 2, 1, 3)), (-1, self.block_size, self.n_embd))
        return self.c_proj(y)


class Block(layers.Layer):
    def __init__(self, n_embd, n_head, block_size, **kwargs):
        super().__init__(**kwargs)
        self.ln_1, self.ln_2 = layers.LayerNormalization(epsilon=1e-5), layers.LayerNormalization(epsilon=1e-5)
        self.attn = CausalSelfAttention(n_embd, n_head, block_size)
        self.c_fc, self.c_proj = layers.Dense(4 * n_embd, activation="gelu"), layers.Dense(n_embd)

    def call(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.c_proj(self.c_fc(self.ln_2(x)))


class GPT(keras.Model):
    def __init__(self, vocab, n_embd, n_head, n_layer, block_size):
        super().__init__()
        self.embed = TokenAndPositionEmbedding(block_size, vocab, n_embd)
        self.blocks = [Block(n_embd, n_head, block_size) for _ in range(n_layer)]
        self.ln_f, self.head = layers.LayerNormalization(epsilon=1e-5), layers.Dense(vocab, use_bias=False)

    def call(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_f(x))


def gpt():
    tokens = keras.Input((10,), dtype="int32")
    return keras.Model(tokens, GPT(30, 16, 4, 2, 10)(tokens))


MODELS = {"an encoder": classifier, "a ViT": vit, "a GPT by hand": gpt}
QUIET = pytest.mark.filterwarnings("ignore:.*every channel is dead", "ignore:.*one dead channel is kept")


def made(name, seed=0):
    keras.utils.set_random_seed(seed)
    model = randomize(MODELS[name]())
    for weight in model.weights:
        if weight.name == "embeddings":  # as large as trained ones
            weight.assign(20 * weight)
    for number, mask in enumerate(masks(model)):
        learn(mask, np.random.default_rng(number))
        if mask.gate is not None:
            mask.gate.assign([1.0, 0.5, 0.0, 2.0])
    return model


@QUIET
@pytest.mark.parametrize("name", MODELS)
def test_what_is_learned_and_what_is_zero_leaves(name, tmp_path):
    model = made(name)
    small = check_laws(model)
    kinds = {each.kind for each in tt.structures(model)}
    assert {"gate", "unit", "width"} < kinds
    assert kinds & {"offset", "block"}
    zero_members(model, random_members(1, fraction=0.3))
    smaller, given = check_laws(model), fresh_inputs(model, seed=5)
    assert smaller.count_params() < small.count_params() < model.count_params()
    assert difference(outputs_of(model, given)[0], outputs_of(smaller, given)[0]) < 1e-5
    smaller.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_allclose(outputs_of(loaded, given)[0], outputs_of(smaller, given)[0], atol=1e-5)
    tt.tflite.convert(smaller, tmp_path / "small.tflite")  # it checks the outputs


@QUIET
@pytest.mark.parametrize("name", MODELS)
def test_it_trains_under_the_penalty_and_after_it(name):
    model = made(name)
    tt.sparsify(model, strength=1e-3)
    model.compile("adam", "mse")
    given = fresh_inputs(model, batch=8)
    model.fit(given, np.zeros((8, *model.output_shape[1:]), "float32"), verbose=0)
    small = tt.compact(model)
    small.compile("adam", "mse")
    history = small.fit(given, np.zeros((8, *model.output_shape[1:]), "float32"), verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_report_shows_the_heads(name, tmp_path):
    model = made(name)
    report = tt.compare(model, tt.compact(model), examples=fresh_inputs(model, batch=4))
    assert len(report.heads) == len(masks(model))
    for heads in report.heads:
        assert heads.left.tolist() == [False, False, True, False]
        assert heads.looks.shape == heads.seen.shape == (4, len(heads.offsets))
        assert np.all(heads.looks[:, np.abs(heads.offsets) > 0][heads.seen[:, np.abs(heads.offsets) > 0] == 0] == 0)
    report.plot(tmp_path / "report.png")
    report.to_html(tmp_path / "report.html")
