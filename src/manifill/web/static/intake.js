// How photos come in: dropped, pasted, chosen, or one of the samples.

const $ = (id) => document.getElementById(id);

export class Intake {
  /** Calls `open(file)` for a photo and `openSample(sample)`. */
  constructor({ open, openSample }) {
    this.open = open;
    this.openSample = openSample;
    $("choose-photo").addEventListener("click", () => $("photo-file").click());
    onFile($("photo-file"), open);
    document.addEventListener("paste", (event) => this.paste(event));
    this.listenForDrops();
  }

  paste(event) {
    const file = [...event.clipboardData.files][0];
    if (!file) return;
    event.preventDefault();
    this.open(file);
  }

  listenForDrops() {
    let inside = 0; // elements of the page that the dragged file is over
    const veil = $("drop");
    const settle = (count) => {
      inside = Math.max(0, count);
      veil.hidden = inside === 0;
    };
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragenter", (event) => hasFiles(event) && settle(inside + 1));
    document.addEventListener("dragleave", (event) => hasFiles(event) && settle(inside - 1));
    document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
    document.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      settle(0);
      if (event.dataTransfer.files.length) this.open(event.dataTransfer.files[0]);
    });
  }

  /** Offer samples, {name, photo, mask, alt}. */
  offer(samples) {
    $("samples").replaceChildren(...samples.map((sample) => this.sampleButton(sample)));
    $("samples-part").hidden = samples.length === 0;
  }

  sampleButton(sample) {
    const [item, button, image] = ["li", "button", "img"].map((name) => document.createElement(name));
    button.type = "button";
    button.title = `Try ${sample.name}`;
    image.src = sample.photo;
    image.alt = `Try this sample: ${sample.alt}`;
    button.append(image);
    button.addEventListener("click", () => this.openSample(sample));
    item.append(button);
    return item;
  }
}

/** Call `use(file)` whenever a file input gets one, the same one again included. */
export function onFile(input, use) {
  input.addEventListener("change", () => {
    const file = input.files[0];
    input.value = "";
    if (file) use(file);
  });
}

/** Have the browser save a file under a name. */
export function saveAs(file, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
