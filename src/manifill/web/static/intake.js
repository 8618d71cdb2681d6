// How photos, masks and sessions come in: dropped, pasted, chosen, or one of the samples.

import { place } from "./api.js";

const $ = (id) => document.getElementById(id);

export class Intake {
  /** `page` has work, open(file), openSample(sample), openSession(file) and openMasks(files). */
  constructor(page) {
    this.page = page;
    this.inside = 0; // elements of the page that the dragged file is over
    $("choose-photo").addEventListener("click", () => $("photo-file").click());
    onFiles($("photo-file"), ([file]) => page.open(file));
    $("open-session").addEventListener("click", () => $("session-file").click());
    onFiles($("session-file"), ([file]) => page.openSession(file));
    document.addEventListener("paste", (event) => this.paste(event));
    this.listenForDrops();
  }

  paste(event) {
    const file = [...event.clipboardData.files][0];
    if (!file) return;
    event.preventDefault();
    this.page.open(file);
  }

  listenForDrops() {
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragenter", (event) => hasFiles(event) && this.over(event, this.inside + 1));
    document.addEventListener("dragleave", (event) => hasFiles(event) && this.over(event, this.inside - 1));
    document.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      this.over(event, this.inside);
    });
    document.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      const asHole = this.asHole(event);
      this.over(event, 0);
      this.drop([...event.dataTransfer.files], asHole);
    });
  }

  /** Whether what is dropped here is a hole: the right half of the window is for masks, once there is a photo. */
  asHole(event) {
    return Boolean(this.page.work) && event.clientX > window.innerWidth / 2;
  }

  over(event, inside) {
    this.inside = Math.max(0, inside);
    $("drop").hidden = this.inside === 0;
    for (const half of $("drop").children) {
      const mask = half.dataset.drop === "mask";
      half.hidden = mask && !this.page.work;
      half.classList.toggle("over", mask === this.asHole(event));
    }
  }

  /** Open a session, a photo, or masks; with a photo and its masks, those named like masks are the hole. */
  async drop(files, asHole) {
    const session = files.find((file) => /\.(zip|manifill)$/i.test(file.name));
    if (session) return this.page.openSession(session);
    const masks = asHole ? files : files.filter((file) => files.length > 1 && /mask/i.test(file.name));
    const photo = files.find((file) => !masks.includes(file));
    if (photo) await this.page.open(photo);
    if (masks.length && this.page.work) await this.page.openMasks(masks);
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
    image.src = place(sample.photo);
    image.alt = `Try this sample: ${sample.alt}`;
    button.append(image);
    button.addEventListener("click", () => this.page.openSample(sample));
    item.append(button);
    return item;
  }
}

/** Call `use(files)` whenever a file input gets some, the same ones again included. */
export function onFiles(input, use) {
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";
    if (files.length) use(files);
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
