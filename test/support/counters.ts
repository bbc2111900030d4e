/** Reads the text of `/metrics`. */

/** Returns the sum over all labels of a metric, or of those lines that contain `label`. */
export function counterOf(metrics: string, name: string, label = ""): number {
  return metrics
    .split("\n")
    .filter((line) => line.startsWith(name) && /[ {]/.test(line.charAt(name.length)))
    .filter((line) => line.includes(label))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

/** Returns a counter of the data plane. */
export function dataPlaneCounter(metrics: string, event: string): number {
  return counterOf(metrics, "ztna_data_plane_events_total", `"${event}"`);
}
