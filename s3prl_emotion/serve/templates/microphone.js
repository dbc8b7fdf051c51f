// Records the microphone as WAV, since libsndfile on the server cannot read the formats of browsers' own recorders.
const HEADER = 44; // bytes
const WHY = {
  NotAllowedError: "Access to the microphone was denied; allow it for this page in the browser, or choose a file.",
  NotFoundError: "No microphone was found; connect one, or choose a file.",
  NotReadableError: "The microphone is in use by another program or does not work; choose a file instead.",
};

/** Returns a 16-bit mono WAV of blocks of samples. */
export function wav(blocks, rate) {
  const length = blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(HEADER + 2 * length));
  const word = (offset, text) => [...text].forEach((letter, index) => view.setUint8(offset + index, letter.charCodeAt(0)));
  word(0, "RIFF");
  view.setUint32(4, HEADER - 8 + 2 * length, true);
  word(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // bytes of the format's description
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channel
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true); // bytes/s
  view.setUint16(32, 2, true); // bytes a frame
  view.setUint16(34, 16, true); // bits
  word(36, "data");
  view.setUint32(40, 2 * length, true);
  let offset = HEADER;
  for (const block of blocks) {
    for (const sample of block) {
      view.setInt16(offset, Math.round(32767 * Math.max(-1, Math.min(1, sample))), true);
      offset += 2;
    }
  }
  return view.buffer;
}

export class Microphone {
  /** Calls `heard(seconds, loudest)` while it records and `ended(file or null)` when it stops. */
  constructor(limits, { heard, ended }) {
    this.limits = limits;
    this.heard = heard;
    this.ended = ended;
    this.isOn = false;
    this.number = 0;
  }

  async start() {
    if (!navigator.mediaDevices || !window.AudioWorkletNode) {
      throw new Error("This browser allows the microphone only on pages of this machine (localhost) or over https; choose a file instead.");
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
    } catch (error) {
      throw new Error(WHY[error.name] || `The microphone does not work (${error.name}); choose a file instead.`);
    }
    try {
      this.context = new AudioContext();
      await this.context.audioWorklet.addModule("/recorder.js");
      const rate = this.context.sampleRate;
      const most = Math.min(this.limits.seconds * rate, (this.limits.megabytes * 1e6 - HEADER) / 2);
      this.blocks = [];
      let length = 0;
      const recorder = new AudioWorkletNode(this.context, "recorder", { numberOfOutputs: 0 });
      recorder.port.onmessage = ({ data }) => {
        if (!this.isOn) return;
        const block = data.subarray(0, Math.floor(most - length));
        this.blocks.push(block);
        length += block.length;
        this.heard(length / rate, data.reduce((loudest, sample) => Math.max(loudest, Math.abs(sample)), 0));
        if (length >= Math.floor(most)) this.stop();
      };
      this.isOn = true;
      this.context.createMediaStreamSource(this.stream).connect(recorder);
      await this.context.resume();
    } catch (error) {
      this.release();
      throw new Error(`Recording does not work in this browser (${error.message}); choose a file instead.`);
    }
  }

  stop() {
    const rate = this.context.sampleRate;
    const blocks = this.blocks;
    this.release();
    this.number += 1;
    const file = new File([wav(blocks, rate)], `recording ${this.number}.wav`, { type: "audio/wav" });
    this.ended(blocks.length ? file : null);
  }

  release() {
    this.isOn = false;
    for (const track of this.stream.getTracks()) track.stop();
    if (this.context) this.context.close();
    this.context = null;
    this.blocks = [];
  }
}
