/** Unpacking of the numbers in Plotly's figures: they are lists, or bytes in base64. */

const KINDS = {
  f4: Float32Array,
  f8: Float64Array,
  i1: Int8Array,
  u1: Uint8Array,
  i2: Int16Array,
  u2: Uint16Array,
  i4: Int32Array,
  u4: Uint32Array,
};

/** Return the numbers, or rows of numbers if the data has two dimensions. @returns {ArrayLike<any>} */
export function unpacked(values) {
  if (!values || Array.isArray(values) || values.bdata === undefined) return values ?? [];
  const bytes = Uint8Array.from(atob(values.bdata), (character) => character.charCodeAt(0));
  const numbers = new KINDS[values.dtype](bytes.buffer);
  const [, columns] = String(values.shape ?? "").split(",").map(Number);
  if (!columns) return numbers;
  return Array.from(
    { length: numbers.length / columns },
    (_, row) => numbers.subarray(row * columns, (row + 1) * columns),
  );
}
