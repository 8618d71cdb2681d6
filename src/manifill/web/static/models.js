// The models that the server has: what they take, and which one fills.

const $ = (id) => document.getElementById(id);
const mega = (n) => `${(n / 1e6).toFixed(1)} million`;

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
    $("model-choice").replaceChildren(...models.map((model) => new Option(model.label ?? model.name, model.name)));
    if (models.length > 1) $("model-choice").value = name;
  }

  /** The name of the model that was chosen, undefined where there is no choice or the server's own is. */
  get wanted() {
    if ($("model-field").hidden || $("model-choice").value === this.model.name) return undefined;
    return $("model-choice").value;
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
