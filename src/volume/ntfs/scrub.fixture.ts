import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Medium, Scrubbed } from '../contract.ts'
import { FileMedium } from '../file-medium.fixture.ts'
import { scrubNtfs } from './scrub.ts'
import { isZero } from './scrub-tally.ts'
import { openNtfsModel } from './volume.ts'

/** A volume in a file, which the ntfs-3g driver can have too. Disposing takes it away. */
export class NtfsImage implements AsyncDisposable {
  readonly folder: string
  readonly path: string

  private constructor(folder: string) {
    this.folder = folder
    this.path = join(folder, 'volume.raw')
  }

  /** `flags`: more of mkntfs. `litter`: what the disk was full of before. */
  static async create(sizeBytes: number, flags: readonly string[] = [], litter = ''): Promise<NtfsImage> {
    const image = new NtfsImage(await mkdtemp(join(tmpdir(), 'calotype-ntfs-')))
    const file = await open(image.path, 'w')
    if (litter !== '') await file.writeFile(Buffer.alloc(sizeBytes, litter))
    await file.truncate(sizeBytes)
    await file.close()
    execFileSync('mkntfs', ['-q', '-F', '-f', ...flags, image.path], { stdio: 'ignore' })
    return image
  }

  /** Calls `work` with the folder where the driver shows the volume; ends when all of it is in the file. */
  async mounted(work: (root: string) => Promise<void>, options = 'streams_interface=windows'): Promise<void> {
    const root = await mkdtemp(join(tmpdir(), 'calotype-mount-'))
    execFileSync('ntfs-3g', ['-o', options, this.path, root], { stdio: 'ignore' })
    try {
      await work(root)
    } finally {
      execFileSync('umount', [root])
      await waitForUnmount(this.path)
      await rm(root, { recursive: true })
    }
  }

  async scrub(): Promise<Scrubbed> {
    return await this.withMedium(async (medium) => await scrubNtfs(await openNtfsModel(medium)))
  }

  async withMedium<Result>(work: (medium: FileMedium) => Promise<Result>): Promise<Result> {
    const medium = await FileMedium.open(this.path)
    try {
      return await work(medium)
    } finally {
      await medium.close()
    }
  }

  async bytes(): Promise<Buffer> {
    return await readFile(this.path)
  }

  /** Asserts that ntfsfix finds nothing. */
  check(): void {
    const { status, stdout } = spawnSync('ntfsfix', ['-n', this.path], { encoding: 'utf8' })
    assert.equal(status, 0, stdout)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true })
  }
}

/** The driver ends after umount has; until then it has the file open and locked. */
async function waitForUnmount(path: string): Promise<void> {
  while (spawnSync('ntfsinfo', ['-m', path], { stdio: 'ignore' }).status !== 0) {
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Compares what is written with what is there, and writes nothing. */
export class ComparingMedium implements Medium {
  readonly sizeBytes: number
  readonly differences: string[] = []
  readonly #medium: Medium

  constructor(medium: Medium) {
    this.#medium = medium
    this.sizeBytes = medium.sizeBytes
  }

  async read(offset: number, lengthBytes: number): Promise<Buffer> {
    return await this.#medium.read(offset, lengthBytes)
  }

  async write(offset: number, bytes: Uint8Array): Promise<void> {
    if (!(await this.#medium.read(offset, bytes.length)).equals(bytes))
      this.differences.push(`${offset} + ${bytes.length} is to be written`)
  }

  async zero(offset: number, lengthBytes: number): Promise<number> {
    if (isZero(await this.#medium.read(offset, lengthBytes))) return 0
    this.differences.push(`${offset} + ${lengthBytes} is not zero`)
    return lengthBytes
  }
}
