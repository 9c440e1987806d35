import type { SparseDisk } from './sparse-disk.ts'

/** What the simulated guest says when it is up, as a real one does at its login. */
export const BOOT_BANNER = 'simulated guest is up\n# '

/**
 * A guest without a computer: a few ticks until it is up, then a pretend shell on its console. A line is one of
 * `echo WORDS` · `write DISK OFFSET TEXT` · `cat DISK OFFSET LENGTH` · `poweroff`.
 */
export class SimulatedGuest {
  readonly #disks: readonly SparseDisk[]
  readonly #say: (text: string) => void
  #ticksLeft: number
  #typed = ''
  isOff = false

  constructor(disks: readonly SparseDisk[], say: (text: string) => void, bootTicks: number) {
    this.#disks = disks
    this.#say = say
    this.#ticksLeft = bootTicks
    if (bootTicks === 0) say(BOOT_BANNER)
  }

  tick(): void {
    if (this.#ticksLeft === 0) return
    this.#ticksLeft--
    if (this.#ticksLeft === 0) this.#say(BOOT_BANNER)
  }

  /** What is typed before the guest is up is lost, as on a real serial line. */
  async type(bytes: Uint8Array): Promise<void> {
    if (this.#ticksLeft > 0 || this.isOff) return
    this.#typed += Buffer.from(bytes).toString('utf8')
    const lines = this.#typed.split('\n')
    this.#typed = lines.pop() ?? ''
    for (const line of lines) this.#say(`${line}\n${await this.#obey(line.trim())}# `)
  }

  async #obey(line: string): Promise<string> {
    const [command, ...words] = line.split(' ')
    if (command === '') return ''
    if (command === 'echo') return `${words.join(' ')}\n`
    if (command === 'poweroff') {
      this.isOff = true
      return 'going down\n'
    }
    const disk = this.#disks[Number(words[0])]
    const offset = Number(words[1])
    if (command === 'write' || command === 'cat') {
      const bytes = Buffer.from(words.slice(2).join(' '))
      const lengthBytes = command === 'write' ? bytes.length : Number(words[2])
      const fits = Number.isSafeInteger(offset + lengthBytes) && offset >= 0 && lengthBytes >= 0
      if (disk === undefined || !fits || offset + lengthBytes > disk.sizeBytes)
        return `${command}: no such place\n`
      if (command === 'cat')
        return `${Buffer.from(await disk.read(offset, lengthBytes)).toString('latin1')}\n`
      await disk.write(offset, bytes)
      return 'written\n'
    }
    return `${command}: not found\n`
  }
}
