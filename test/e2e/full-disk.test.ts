import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { findImage, importBase, launchDesktop } from '../../demo/steps.ts'
import { Qmp } from '../../src/host/qemu/qmp.ts'
import { findId } from '../../src/image/ids.ts'
import {
  assertNothingLeft,
  beginCapture,
  fillGuest,
  HOME,
  inside,
  leftOfCaptures,
  objectsOf,
  typeInto,
  until,
  untilEnded,
} from './failure-steps.ts'
import { newPlace, type PlaceOptions } from './harness.ts'

/** Starts the server in a mount namespace of its own, in which `folder` of its data is a small file system. */
function withSmall(folder: string, mebibytes: number): NonNullable<PlaceOptions['wrapper']> {
  const mount = `mkdir -p "$1" && mount -t tmpfs -o size=${mebibytes}m tmpfs "$1" && shift && exec "$@"`
  const namespaces = process.getuid?.() === 0 ? '-m' : '-rm'
  return (data) => ['unshare', namespaces, 'sh', '-c', mount, 'sh', join(data, folder)]
}

test('a store that is full ends a capture with a reason, and takes back what it wrote', async (t) => {
  const place = await newPlace(t, { wrapper: withSmall(`regions/${HOME}/objects`, 110) })
  const { server } = place
  const base = await importBase(server, HOME, 'base')
  const { desktopId, console } = await launchDesktop(server, HOME, base.id, 'source')
  const small = await beginCapture(server, desktopId, 'small')
  await untilEnded(server, small.taskId, 'done')
  const before = await objectsOf(place, HOME)

  await fillGuest(console, 100)
  const { imageId, taskId } = await beginCapture(server, desktopId, 'too-big')
  const task = await untilEnded(server, taskId, 'failed')
  assert.equal(task.faultKind, 'full')
  assert.match(task.reason ?? '', /no space left.*make room/i)
  const listed = (await server.wuying('DescribeImages', {
    RegionId: HOME,
    ImageId: [imageId.replace('img-', 'm-')],
  })) as { Images: { Status: string }[] }
  assert.deepEqual(
    listed.Images.map((image) => image.Status),
    ['CreateFailed'],
  )
  assert.equal((await findImage(server, HOME, imageId)).reason, task.reason)
  await assertNothingLeft(place, before)

  // What is zero needs no room: the same machine, once its big file is gone.
  await console.run('dd if=/dev/zero of=/home/demo/big bs=1M count=100 conv=notrunc 2>/dev/null; sync')
  const again = await beginCapture(server, desktopId, 'small-again')
  await untilEnded(server, again.taskId, 'done')
  assert.equal((await findImage(server, HOME, again.imageId)).state, 'available')
  assert.deepEqual(await leftOfCaptures(place), [])
})

test('a host whose disk is full ends a capture with a reason; its guests wait for room, and go on', async (t) => {
  const place = await newPlace(t, { wrapper: withSmall('machines', 160) })
  const { server } = place
  const base = await importBase(server, HOME, 'base')
  const { desktopId, console } = await launchDesktop(server, HOME, base.id, 'source')
  const small = await beginCapture(server, desktopId, 'small')
  await untilEnded(server, small.taskId, 'done')
  const before = await objectsOf(place, HOME)
  await console.run('echo kept > /tmp/memory')

  const ballast = inside(place, 'machines/ballast')
  await writeFile(ballast, Buffer.alloc(120 * 1024 ** 2, 1))
  await typeInto(
    server,
    desktopId,
    'dd if=/dev/urandom of=/home/demo/big bs=1M count=60 2>/dev/null; sync; echo big-$((6 * 7))',
  )
  const monitor = join(place.data, 'run', `${findId('machine', desktopId)}.q`)
  await until('the guest to stand still', async () => {
    const qmp = await Qmp.open(monitor)
    const { status } = (await qmp.execute('query-status')) as { status: string }
    qmp.close()
    return status === 'io-error' || undefined
  })
  const { imageId, taskId } = await beginCapture(server, desktopId, 'without-room')
  const task = await untilEnded(server, taskId, 'failed')
  assert.equal(task.faultKind, 'full')
  assert.match(task.reason ?? '', /no space left.*make room/i)
  assert.equal((await findImage(server, HOME, imageId)).state, 'failed')
  await assertNothingLeft(place, before)

  await rm(ballast)
  await console.waitFor('big-42')
  assert.equal(await console.run('cat /tmp/memory; dmesg | grep -ciE "i/o error|ext4-fs error"'), 'kept\n0')
  const again = await beginCapture(server, desktopId, 'with-room')
  await untilEnded(server, again.taskId, 'done')
  assert.deepEqual(await leftOfCaptures(place), [])
})
