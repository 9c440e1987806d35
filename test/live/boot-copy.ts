import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

const BOOT_MS_MAX = 240_000

/**
 * Boots copies of an image's disks, `system.raw`, `data.raw` and `raw.raw` of a folder, in a QEMU of its own, and waits
 * until the guest has said that it is up and then asks for a command. The files are not written to.
 */
export async function bootCopy(folder: string): Promise<void> {
  const disk = (name: string) =>
    `if=none,id=${name},format=raw,snapshot=on,file=${join(folder, `${name}.raw`)}`
  const qemu = spawn(
    'qemu-system-x86_64',
    [
      ...['-accel', 'tcg', '-cpu', 'max,la57=off', '-machine', 'pc,hpet=off', '-m', '512'],
      ...['-nodefaults', '-display', 'none', '-serial', 'stdio'],
      ...['-drive', disk('system'), '-device', 'virtio-blk-pci,drive=system,bootindex=0'],
      ...['-drive', disk('data'), '-device', 'virtio-blk-pci,drive=data'],
      ...['-drive', disk('raw'), '-device', 'virtio-scsi-pci', '-device', 'scsi-hd,drive=raw'],
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  const ended = once(qemu, 'exit')
  const timer = setTimeout(() => qemu.kill('SIGKILL'), BOOT_MS_MAX)
  try {
    qemu.stdout.setEncoding('latin1')
    let said = ''
    let isAsked = false
    for await (const text of qemu.stdout) {
      said += text
      if (!isAsked && /calotype-guest up [\s\S]*guest# $/.test(said)) {
        isAsked = true
        qemu.stdin.write('dmesg | grep -ciE "recover|ext4-fs error|i/o error"; cat /data/writer/counter\n')
      }
      const answer = /guest# (\d+)\r?\n(\d{12})\r?\n/.exec(said)
      if (answer === null) continue
      assert.equal(answer[1], '0', 'no file system had to be recovered')
      return
    }
    assert.fail(`QEMU ended, or was ended, before the guest was up: ${said.slice(-1000)}`)
  } finally {
    clearTimeout(timer)
    if (qemu.exitCode === null && qemu.signalCode === null) qemu.kill('SIGKILL')
    await ended
  }
}
