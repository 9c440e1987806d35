import { formatBytes } from './format.ts'
import type { Io } from './io.ts'
import { describeRate, drawBar, fit, REDRAW_MS, rateMeter } from './progress.ts'

/** Shows on standard error how bytes go over the line: one line that redraws on a terminal, a line now and then elsewhere. */
export interface ByteProgress {
  update(doneBytes: number): void
  /** Leaves the last state standing. */
  end(): void
}

/** Where the end is not known a line is said each time so many have come. */
const STEP_BYTES = 1024 ** 3

/** `totalBytes` undefined where nobody knows it. */
export function createByteProgress(io: Io, what: string, totalBytes: number | undefined): ByteProgress {
  const rateOf = rateMeter()
  const { stderr } = io
  let doneBytes = 0
  let rate: number | undefined
  let drawnAtMs = Number.NEGATIVE_INFINITY
  let said = -1
  const part = () => (totalBytes === undefined || totalBytes === 0 ? 0 : Math.min(1, doneBytes / totalBytes))
  const describe = () => {
    if (totalBytes === undefined) return `${what}  ${formatBytes(doneBytes)}${describeRate(rate, undefined)}`
    const bytes = `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`
    return `${what}  ${Math.floor(part() * 100)} %  ${bytes}${describeRate(rate, totalBytes - doneBytes)}`
  }
  const draw = () => {
    const bar = totalBytes === undefined ? '' : `${drawBar(part())} `
    stderr.write(`\r\x1b[2K${fit(`${bar}${describe()}`, stderr.columns)}`)
  }
  return {
    update(now) {
      doneBytes = now
      const nowMs = io.nowMs()
      rate = rateOf({ id: what, doneBytes }, nowMs)
      if (stderr.isTerminal) {
        if (nowMs - drawnAtMs < REDRAW_MS) return
        drawnAtMs = nowMs
        return draw()
      }
      const step = totalBytes === undefined ? Math.floor(doneBytes / STEP_BYTES) : Math.floor(part() * 10)
      if (step === said) return
      said = step
      stderr.write(`${describe()}\n`)
    },
    end() {
      if (!stderr.isTerminal || drawnAtMs === Number.NEGATIVE_INFINITY) return
      draw()
      stderr.write('\n')
    },
  }
}
