// Pictures with a palette: a screenshot of this page is a fifth of its size with its 256 most frequent colours.
import { crc32, deflateSync } from "node:zlib";

const COLORS = 256;

/** The pixels of a PNG, as 4 bytes each. A browser reads it, so that no other program is needed. */
export async function pixels(page, png) {
  const { width, height, data } = await page.evaluate(async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes]));
    const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, image.width, image.height);
    let text = "";
    for (let at = 0; at < data.length; at += 32_768) text += String.fromCharCode(...data.subarray(at, at + 32_768));
    return { width: image.width, height: image.height, data: btoa(text) };
  }, png.toString("base64"));
  return { width, height, data: Buffer.from(data, "base64") };
}

function chunk(name, content) {
  const body = Buffer.concat([Buffer.from(name), content]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(content.length);
  frame.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
}

/** A PNG with a palette: rarer colours become the nearest of the frequent ones. */
export function paletted({ width, height, data }) {
  const times = new Map();
  const colors = new Uint32Array(width * height);
  for (let at = 0; at < colors.length; at += 1) {
    const color = data.readUIntBE(at * 4, 3);
    colors[at] = color;
    times.set(color, (times.get(color) ?? 0) + 1);
  }
  const palette = [...times].sort((a, b) => b[1] - a[1]).slice(0, COLORS).map(([color]) => color);
  const parts = (color) => [color >> 16, (color >> 8) & 255, color & 255];
  const places = new Map(palette.map((color, at) => [color, at]));
  const place = (color) => {
    const known = places.get(color);
    if (known !== undefined) return known;
    const far = (other) => parts(other).reduce((sum, value, at) => sum + (value - parts(color)[at]) ** 2, 0);
    const nearest = palette.reduce((best, other, at) => (far(other) < far(palette[best]) ? at : best), 0);
    places.set(color, nearest);
    return nearest;
  };
  // Each line begins with its filter: none.
  const lines = Buffer.alloc(height * (width + 1));
  for (let y = 0; y < height; y += 1) for (let x = 0; x < width; x += 1) lines[y * (width + 1) + x + 1] = place(colors[y * width + x]);
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width);
  head.writeUInt32BE(height, 4);
  head.set([8, 3, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]), chunk("IHDR", head), chunk("PLTE", Buffer.from(palette.flatMap(parts))), chunk("IDAT", deflateSync(lines, { level: 9 })), chunk("IEND", Buffer.alloc(0)),
  ]);
}
