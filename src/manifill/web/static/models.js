// The models that the server has: what they take, and which one fills.

const $ = (id) => document.getElementById(id);
const mega = (n) => `${(n / 1e6).toFixed(1)} million`;

function label({ name, knows }) {
  if (name === "auto") return "Automatic";
  return knows ? `${name}: ${knows}` : name;
}

export class Models {
  constructor(api, settings) {
    Object.assign(this, { api, settings });
    this.model = null; // what the server says of it
  }

  async ask() {
    this.model = await this.api.get("/model");
    const { name, models = [] } = this.model;
    this.settings.adopt(this.model);
    $("model").textContent = `Many ways to fill a hole \u00b7 ${name}`;
    $("model").hidden = models.length > 1;
    $("model-field").hidden = models.length < 2;
    $("model-choice").replaceChildren(...models.map((model) => new Option(label(model), model.name)));
    $("model-choice").value = name;
    $("model-choice").addEventListener("change", () => this.settings.startAt(this.chosen.temperature));
  }

  get chosen() {
    return this.model.models.find(({ name }) => name === $("model-choice").value);
  }

  /** The name of the model that was chosen, undefined where there is no choice or the server's own is. */
  get wanted() {
    const name = $("model-choice").value;
    return $("model-field").hidden || name === this.model.name ? undefined : name;
  }

  /** Throw, in words, for a photo that the server does not take. */
  check({ name, width, height, file }) {
    const { pixels = Infinity, body_bytes: bytes = Infinity } = this.model?.limits ?? {};
    if (width * height > pixels) {
      throw new Error(`${name} has ${mega(width * height)} pixels; this server takes up to ${mega(pixels)}.`);
    }
    if (file.size > bytes) {
      throw new Error(`${name} has ${mega(file.size)} bytes; this server takes up to ${mega(bytes)}.`);
    }
  }
}
