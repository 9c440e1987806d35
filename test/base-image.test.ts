import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'

const run = promisify(execFile)
const project = join(import.meta.dirname, '..')
const builder = join(project, 'demo/base-image/build.sh')
const cache = join(project, '.cache/base-image')

let folder: string
let basePath: string

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'calotype-base-'))
  basePath = (await run(builder, [cache])).stdout.trim()
})
after(() => rm(folder, { recursive: true, force: true }))

/** A guest on a throw-away overlay of the base image, with its serial console at hand. */
interface Guest {
  /** Waits until the console's unread part holds `text`; returns what came before it and takes both away. */
  until(text: string): Promise<string>
  /** Runs one command in the guest's shell and returns what it printed. */
  shell(command: string): Promise<string>
  /** Presses the power button and waits until QEMU has ended by itself. */
  powerDown(): Promise<void>
  kill(): Promise<void>
}

async function bootGuest(overlayPath: string, options: readonly string[]): Promise<Guest> {
  const monitorPath = `${overlayPath}.qmp`
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      ...['-accel', 'tcg', '-m', '512', '-nodefaults', '-display', 'none', '-serial', 'stdio'],
      ...['-qmp', `unix:${monitorPath},server=on,wait=off`],
      ...['-drive', `if=none,id=system,format=qcow2,cache=unsafe,file=${overlayPath}`],
      ...options,
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  const ended = once(qemu, 'exit')
  const { stdin, stdout } = qemu
  let unread = ''
  stdout.setEncoding('utf8')
  stdout.on('data', (text: string) => {
    unread += text.replaceAll('\r', '')
  })

  const until = async (text: string): Promise<string> => {
    for (;;) {
      const at = unread.indexOf(text)
      if (at >= 0) {
        const seen = unread.slice(0, at)
        unread = unread.slice(at + text.length)
        return seen
      }
      assert(await moreOrEnd(qemu), `QEMU ended before the guest said ${JSON.stringify(text)}:\n${unread}`)
    }
  }
  return {
    until,
    shell(command) {
      stdin.write(`${command}\n`)
      return until('guest# ')
    },
    async powerDown() {
      await pressPowerButton(monitorPath)
      const [code] = await ended
      assert.equal(code, 0)
    },
    async kill() {
      if (qemu.exitCode === null && qemu.signalCode === null) qemu.kill('SIGKILL')
      await ended
    },
  }
}

/** True once more output has come, false once there can be no more. */
function moreOrEnd(process: ChildProcess): Promise<boolean> {
  const { stdout } = process
  assert(stdout)
  if (stdout.readableEnded) return Promise.resolve(false)
  return new Promise((resolve) => {
    const more = () => settle(true)
    const end = () => settle(false)
    const settle = (hasMore: boolean) => {
      stdout.off('data', more).off('end', end)
      resolve(hasMore)
    }
    stdout.on('data', more).on('end', end)
  })
}

async function pressPowerButton(monitorPath: string): Promise<void> {
  const socket = connect(monitorPath)
  await once(socket, 'connect')
  const answers = createInterface(socket)[Symbol.asyncIterator]()
  await answers.next()
  for (const command of ['qmp_capabilities', 'system_powerdown']) {
    socket.write(`${JSON.stringify({ execute: command })}\n`)
    for (;;) {
      const { value } = await answers.next()
      assert(value !== undefined, 'QEMU closed its monitor.')
      const answer = JSON.parse(value)
      assert(!('error' in answer), value)
      if ('return' in answer) break
    }
  }
  socket.end()
}

async function makeOverlay(name: string): Promise<string> {
  const path = join(folder, name)
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', basePath, '-F', 'raw', path])
  return path
}

const virtioBlock = ['-device', 'virtio-blk-pci,drive=system']
const virtioScsi = ['-device', 'virtio-scsi-pci', '-device', 'scsi-hd,drive=system']

test('the base image is a sparse 4 GiB disk with a real amount of data', async () => {
  const { size, blocks } = await stat(basePath)
  assert.equal(size, 4 * 2 ** 30)
  const dataBytes = blocks * 512
  assert(dataBytes > 100 * 2 ** 20 && dataBytes < 400 * 2 ** 20, `${dataBytes} bytes of data`)
})

test('a second build is the first one, untouched', async () => {
  const first = await stat(basePath)
  const { stdout, stderr } = await run(builder, [cache])
  const second = await stat(basePath)
  assert.equal(stdout.trim(), basePath)
  assert.equal(stderr, '')
  assert.deepEqual([second.ino, second.mtimeMs], [first.ino, first.mtimeMs])
})

test('what a killed builder left behind is removed, and the same packages make the same bytes', async () => {
  const other = join(folder, 'cache')
  await mkdir(join(other, 'packages'), { recursive: true })
  await mkdir(join(other, 'build.killed'))
  await writeFile(join(other, 'base.stamp'), 'of an older image')
  for (const name of await readdir(join(cache, 'packages')))
    await copyFile(join(cache, 'packages', name), join(other, 'packages', name))
  const otherPath = (await run(builder, [other])).stdout.trim()
  assert.deepEqual((await readdir(other)).sort(), ['base.raw', 'base.stamp', 'lock', 'packages'])
  // Ends with an error at the first byte that differs; holes cost it nothing.
  await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', otherPath, basePath])
})

test('the guest comes up, keeps what is written, and goes down at its power button', async () => {
  const overlayPath = await makeOverlay('kept.qcow2')
  const first = await bootGuest(overlayPath, virtioBlock)
  try {
    await first.until('calotype-guest up calotype-demo ')
    assert.match(await first.until('\n'), /^\d+\.\d+$/)
    await first.until('guest# ')
    assert.equal(await first.shell('. /etc/os-release; echo "$NAME"'), 'Calotype demo Linux\n')
    assert.equal(await first.shell('echo 35 mm >/home/demo/film && sync'), '')
    await first.powerDown()
  } finally {
    await first.kill()
  }

  const second = await bootGuest(overlayPath, virtioBlock)
  try {
    await second.until('calotype-guest up ')
    await second.until('guest# ')
    assert.equal(await second.shell('cat /home/demo/film'), '35 mm\n')
    // A journal that has to be replayed would say that the file system was not left cleanly.
    assert.equal(await second.shell('dmesg | grep -i recover'), '')
    await second.powerDown()
  } finally {
    await second.kill()
  }
})

for (const [machine, system, root] of [
  ['pc', virtioScsi, '/dev/sda2'],
  ['q35', virtioBlock, '/dev/vda2'],
  ['q35', virtioScsi, '/dev/sda2'],
] as const)
  test(`the guest finds its root at ${root} on ${machine}, beside an empty disk`, async () => {
    const emptyPath = join(folder, `empty-${machine}-${root.slice(5)}.qcow2`)
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', emptyPath, '1G'])
    const guest = await bootGuest(await makeOverlay(`${machine}-${root.slice(5)}.qcow2`), [
      ...['-machine', machine, ...system],
      ...['-drive', `if=none,id=empty,format=qcow2,file=${emptyPath}`],
      ...['-device', 'virtio-blk-pci,drive=empty'],
    ])
    try {
      await guest.until('calotype-guest up ')
      await guest.until('guest# ')
      assert.equal(await guest.shell('awk \'$2 == "/" { print $1 }\' /proc/mounts'), `${root}\n`)
      assert.match(await guest.shell('cat /proc/partitions'), / 1048576 vd[ab]\n/)
      await guest.powerDown()
    } finally {
      await guest.kill()
    }
  })
