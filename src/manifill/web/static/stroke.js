// One stroke of a tool on a mask: brush and eraser act at once, rectangle and lasso when they are finished.

const AT_ONCE = ["brush", "eraser"];

export class Stroke {
  /** `subtract` takes away instead of adding, as the eraser always does. */
  constructor(tool, mask, diameter, subtract = false) {
    this.tool = tool;
    this.mask = mask;
    this.radius = diameter / 2;
    this.value = subtract || tool === "eraser" ? 0 : 1;
    this.points = [];
  }

  get atOnce() {
    return AT_ONCE.includes(this.tool);
  }

  /** Go on to a point of the photo. */
  add(point) {
    if (this.atOnce) this.mask.line(this.points.at(-1) ?? point, point, this.radius, this.value);
    this.points.push(point);
  }

  finish() {
    const [first, last] = [this.points[0], this.points.at(-1)];
    if (this.tool === "rectangle") this.mask.rectangle(first, last, this.value);
    if (this.tool === "lasso") this.mask.polygon(this.points, this.value);
  }

  /** The closed line to show while it is not finished, as points of the photo. */
  get outline() {
    if (this.tool !== "rectangle") return this.points;
    const [a, b] = [this.points[0], this.points.at(-1)];
    return [a, { x: b.x, y: a.y }, b, { x: a.x, y: b.y }];
  }
}
