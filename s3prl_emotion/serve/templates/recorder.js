// Runs in the browser's audio thread: collects samples into blocks and sends them to the page.
const LENGTH = 4096; // samples

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(LENGTH);
    this.filled = 0;
  }

  process(inputs) {
    const samples = inputs[0][0];
    if (!samples) return true;
    for (const sample of samples) {
      this.block[this.filled] = sample;
      this.filled += 1;
      if (this.filled === LENGTH) {
        this.port.postMessage(this.block.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
