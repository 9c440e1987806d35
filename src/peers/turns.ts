import assert from 'node:assert/strict'

/**
 * Lets so much through at once; the others wait in the order in which they came. `take` answers what gives the place back,
 * once; somebody who no longer waits rejects with the signal's reason.
 */
export class Turns {
  readonly #sizeMax: number
  #taken = 0
  readonly #waiting: { readonly size: number; readonly go: () => void }[] = []

  constructor(sizeMax: number) {
    this.#sizeMax = sizeMax
  }

  async take(size: number, signal: AbortSignal): Promise<() => void> {
    assert(size <= this.#sizeMax, 'what is too large would wait forever')
    signal.throwIfAborted()
    if (this.#waiting.length > 0 || this.#taken + size > this.#sizeMax) await this.#wait(size, signal)
    else this.#taken += size
    let isTaken = true
    return () => {
      if (isTaken) this.#taken -= size
      isTaken = false
      this.#admit()
    }
  }

  #wait(size: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const one = {
        size,
        go: () => {
          signal.removeEventListener('abort', leave)
          resolve()
        },
      }
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(one), 1)
        reject(signal.reason)
        // Those behind may be smaller.
        this.#admit()
      }
      signal.addEventListener('abort', leave, { once: true })
      this.#waiting.push(one)
    })
  }

  #admit(): void {
    for (let one = this.#waiting[0]; one !== undefined; one = this.#waiting[0]) {
      if (this.#taken + one.size > this.#sizeMax) return
      this.#waiting.shift()
      this.#taken += one.size
      one.go()
    }
  }
}
