import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { getPriority, tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { bareEnvironment, folderSeen, type Isolation, prefixOf, userOf } from './isolation.ts'
import { endProcessesOf } from './left-processes.ts'
import { cpuLimit, limitWords, type ProcessLimits } from './limits.ts'
import { findToolIsolation, rememberWorking } from './tool.ts'

const LIMITS: ProcessLimits = { cpuSeconds: 30, openFileCount: 64, fileBytes: 0, processCount: 8 }

const isThere = ({ facts }: Isolation, name: string) => facts.some((one) => one.name === name && one.isThere)

async function makeFolder(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'isolation-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** What a shell says that is shut in. */
function say(
  isolation: Isolation,
  script: string,
  folder: string,
  user = userOf(isolation),
): Promise<string> {
  const [command = '', ...words] = prefixOf(isolation, { limits: LIMITS, folder, user })
  const options = { cwd: folder, env: bareEnvironment() }
  return new Promise((resolve, reject) => {
    execFile(command, [...words, 'sh', '-c', script], options, (error, stdout) => {
      if (error === null) resolve(stdout.trim())
      else reject(error)
    })
  })
}

test('a tool sees its folder and the programs of the system, and is nobody', async (t) => {
  const isolation = await findToolIsolation(['sh', '-c', 'true'], LIMITS)
  assert.ok(isolation.isWorking, String(isolation.failure))
  const folder = await makeFolder(t)
  await chmod(folder, 0o755)
  await writeFile(join(folder, 'mine'), '')
  const secret = join(await makeFolder(t), 'secret')
  await writeFile(secret, 'secret')
  const hasNoFiles = isThere(isolation, 'no files but programs and libraries')
  if (hasNoFiles) {
    assert.equal(await say(isolation, 'pwd; ls', folder), '/own\nmine')
    assert.equal(folderSeen(isolation), '/own')
    const seen = await say(
      isolation,
      `cat ${secret} || ls -d /etc /proc /sys /root /host || echo nothing`,
      folder,
    )
    assert.equal(seen, 'nothing')
    assert.equal(await say(isolation, 'mkdir /x /tmp || echo nothing', folder), 'nothing')
  }
  const [user, other] = [await say(isolation, 'id -u', folder), await say(isolation, 'id -u', folder)]
  if (isThere(isolation, 'a user of its own')) {
    assert.notEqual(user, other)
    assert.equal(await say(isolation, 'id -u', folder, 1_879_048_200), '1879048200')
  }
  if (process.getuid?.() === 0) assert.notEqual(user, '0')
  assert.equal(await say(isolation, 'ulimit -f; ulimit -c; ulimit -n', folder), '0\n0\n64')
  assert.equal(await say(isolation, 'setpriv --dump | grep no_new', folder), 'no_new_privs: 1')
})

test('a tool stands back from who started it', async (t) => {
  const isolation = await findToolIsolation(['sh', '-c', 'true'], LIMITS)
  const nice = await say(isolation, 'nice', await makeFolder(t))
  assert.ok(Number(nice) > getPriority(), nice)
})

test('a tool reaches no port of the host', async (t) => {
  const isolation = await findToolIsolation(['sh', '-c', 'true'], LIMITS)
  const server = createServer((socket) => socket.end('here'))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  const script = `bash -c 'cat < /dev/tcp/127.0.0.1/${address.port}' || echo nothing`
  const heard = await say(isolation, script, await makeFolder(t))
  assert.equal(heard, isThere(isolation, 'no network') ? 'nothing' : 'here')
})

test('a program that does not run is not taken for a working one, and is tried again', async () => {
  let count = 0
  const find = rememberWorking(() => {
    count++
    return findToolIsolation([count < 3 ? '/nothing/here' : 'true'], LIMITS)
  })
  assert.deepEqual(
    [(await find()).isWorking, (await find()).isWorking, (await find()).isWorking, (await find()).isWorking],
    [false, false, true, true],
  )
  assert.equal(count, 3)
})

test('limits are words of prlimit; processes are counted only of a user of its own', () => {
  assert.equal(cpuLimit(1.5), '--cpu=2:7')
  assert.deepEqual(limitWords({ ...LIMITS, addressBytes: 4096 }, true), [
    '--cpu=30:35',
    '--core=0',
    '--nofile=64',
    '--fsize=0',
    '--as=4096',
    '--nproc=8',
  ])
  assert.ok(!limitWords(LIMITS, false).some((word) => word.startsWith('--nproc')))
})

test('processes are known by a path among their arguments, and no others are ended', async (t) => {
  const folder = await makeFolder(t)
  const start = async (word: string) => {
    const child = spawn('sh', ['-c', 'echo up; read line', 'sh', word], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    t.after(() => child.kill('SIGKILL'))
    return child
  }
  const mark = { ending: '.disk', option: '--description=' }
  const ours = await start(`--description=${folder}/0.disk`)
  const plain = await start(`${folder}/1.disk`)
  const others = await Promise.all([
    start(`--description=${folder}-other/0.disk`),
    start(`--option=${folder}/0.disk`),
    start(`--description=${folder}/0.file`),
  ])
  const gone = Promise.all([once(ours, 'exit'), once(plain, 'exit')])
  await endProcessesOf([`${folder}/`], mark)
  await gone
  assert.ok(others.every(({ exitCode, signalCode }) => exitCode === null && signalCode === null))
  await endProcessesOf([`${folder}/`], mark)
})
