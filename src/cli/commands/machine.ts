import { type Command, Option } from 'commander'
import type { ShownMachine } from '../../wire/native/show.ts'
import {
  act,
  clientCommand,
  collect,
  type DataDisk,
  type PlaceFlags,
  type ProgramParts,
  parseCount,
  parseDataDisk,
  parseLabel,
  parseSizeOption,
  placed,
  timed,
  type WaitFlags,
  waiting,
} from '../options.ts'
import type { Session, SessionFlags } from '../session.ts'

type Flags = SessionFlags & PlaceFlags & WaitFlags
type Goal = 'running' | 'stopped' | 'gone'

interface CreateFlags extends Flags {
  readonly image: string
  readonly name: string
  readonly zone?: string
  readonly count?: number
  readonly cpu?: number
  readonly memory?: number
  readonly diskSize?: number
  readonly dataDisk?: readonly DataDisk[]
  readonly label?: readonly { key: string; value: string }[]
  readonly tag?: string
}

interface ConsoleFlags extends Flags {
  readonly from: number
  readonly send?: string
  readonly follow?: boolean
  readonly interactive?: boolean
}

/** Declares `machine`. */
export function machineCommands(program: Command, parts: ProgramParts): void {
  const machine = program.command('machine').description('cloud computers')

  placed(clientCommand(machine, 'list', 'the machines of a region, newest first'))
    .option('--name <name>', 'only those of this name')
    .option('--limit <count>', 'the newest so many', parseCount)
    .action(
      act(parts, async (session, flags: Flags & { name?: string; limit?: number }) => {
        const { region, project, name, limit } = flags
        const query = { region, project, name }
        await printMachines(
          session,
          await session.listAll<ShownMachine>('/v1/machines', 'machines', query, limit),
        )
      }),
    )

  placed(clientCommand(machine, 'show <machine>', 'one machine, with its disks')).action(
    act(parts, async (session, flags: Flags, id: string) => {
      await showMachine(session, await getMachine(session, flags, id))
    }),
  )

  waiting(
    placed(clientCommand(machine, 'create', 'launches machines from an image').alias('launch')),
    'until they run',
  )
    .requiredOption('--image <id>', 'the image')
    .requiredOption('--name <name>', 'the name; several get -0001 and so on behind it')
    .option('--zone <zone>', "the zone; without it the region's first")
    .option('--count <count>', 'how many', parseCount)
    .option('--cpu <count>', "virtual processors; without it the image's, else 1", parseCount)
    .option('--memory <size>', "such as 4GiB; without it the image's, else 512MiB", parseSizeOption)
    .option('--disk-size <size>', "the system disk; without it as large as the image's", parseSizeOption)
    .option(
      '--data-disk <size[,bus=…][,snapshot=…]>',
      'a disk more, empty or with the content of a snapshot; may be repeated',
      collect(parseDataDisk),
    )
    .option('--label <key=value>', 'may be repeated', collect(parseLabel))
    .option('--tag <tag>', 'a business group')
    .action(act(parts, createMachines))

  waiting(
    placed(clientCommand(machine, 'start <machine>', 'starts a stopped machine')),
    'until it runs',
  ).action(
    act(parts, async (session, flags: Flags, id: string) => {
      await change(session, flags, id, 'start', {}, 'running', 'is starting.')
    }),
  )

  waiting(
    placed(clientCommand(machine, 'stop <machine>', 'presses the power button')),
    'until it has stopped',
  )
    .option('--power', 'pulls the plug instead')
    .action(
      act(parts, async (session, flags: Flags & { power?: boolean }, id: string) => {
        const how = flags.power === true ? 'power' : 'graceful'
        await change(session, flags, id, 'stop', { how }, 'stopped', 'is stopping.')
      }),
    )

  waiting(
    placed(clientCommand(machine, 'delete <machine>', 'removes a machine with its disks')),
    'until it is gone',
  )
    .option('--stopped-only', 'refuse a machine that is running')
    .action(
      act(parts, async (session, flags: Flags & { stoppedOnly?: boolean }, id: string) => {
        const { region, project, stoppedOnly } = flags
        const path = machinePath(id)
        const answer = await session.client.call<{ id: string }>('DELETE', path, {
          query: { region, project, stoppedOnly },
        })
        if (flags.wait === true) await waitForState(session, flags, id, 'gone')
        session.print(
          answer,
          () => `Machine ${answer.id} ${flags.wait === true ? 'is gone' : 'is being deleted'}.\n`,
        )
      }),
    )

  timed(placed(clientCommand(machine, 'wait <machine>', 'until a machine runs, has stopped, or is gone')))
    .addOption(
      new Option('--for <state>', 'what to wait for')
        .choices(['running', 'stopped', 'gone'])
        .default('running'),
    )
    .action(
      act(parts, async (session, flags: Flags & { for: Goal }, id: string) => {
        const found = await waitForState(session, flags, id, flags.for)
        session.print(found ?? { id, state: 'gone' }, () => `Machine ${found?.id ?? id} is ${flags.for}.\n`)
      }),
    )

  placed(
    clientCommand(machine, 'console <machine>', 'what the serial console says; --interactive types into it'),
  )
    .option('--from <byte>', 'go on from this byte', parseCount, 0)
    .option('--send <text>', 'type this and Enter first')
    .addOption(new Option('--follow', 'go on until Ctrl-C').conflicts('json'))
    .addOption(
      new Option('--interactive', 'join the keyboard to it; Ctrl-] leaves').conflicts(['json', 'follow']),
    )
    .action(act(parts, useConsole))
}

const machinePath = (id: string) => `/v1/machines/${encodeURIComponent(id)}`

function getMachine(session: Session, { region, project }: PlaceFlags, id: string): Promise<ShownMachine> {
  return session.client.call('GET', machinePath(id), { query: { region, project } })
}

async function createMachines(session: Session, flags: CreateFlags): Promise<void> {
  const body = {
    region: flags.region,
    project: flags.project,
    zone: flags.zone,
    imageId: flags.image,
    name: flags.name,
    count: flags.count,
    cpuCount: flags.cpu,
    memoryBytes: flags.memory,
    systemDiskBytes: flags.diskSize,
    dataDisks: flags.dataDisk,
    labels: flags.label,
    tag: flags.tag,
  }
  type Made = { readonly machineIds: readonly string[]; readonly taskIds: readonly string[] }
  const made = await session.client.call<Made>('POST', '/v1/machines', { body })
  const say = (rest: string) => made.machineIds.map((id) => `Machine ${id} ${rest}\n`).join('')
  if (flags.wait !== true) {
    session.print(
      made,
      () => `${say('is being made.')}Follow it: calotype task wait ${made.taskIds.join(' ')}\n`,
    )
    return
  }
  const tasks = await session.waitForDone(made.taskIds, { timeoutMs: flags.timeout })
  const states = await Promise.all(
    made.machineIds.map(async (id) => (await getMachine(session, flags, id)).state),
  )
  // A server that keeps disk files only makes machines that stay stopped.
  const ready = () => made.machineIds.map((id, i) => `Machine ${id} is ${states[i]}.\n`).join('')
  session.print({ ...made, tasks }, ready)
}

async function change(
  session: Session,
  flags: Flags,
  id: string,
  verb: 'start' | 'stop',
  extra: object,
  goal: Goal,
  begun: string,
): Promise<void> {
  const { region, project } = flags
  const body = { region, project, ...extra }
  const answer = await session.client.call<{ id: string }>('POST', `${machinePath(id)}/${verb}`, { body })
  if (flags.wait !== true) return session.print(answer, () => `Machine ${answer.id} ${begun}\n`)
  const found = await waitForState(session, flags, id, goal)
  session.print(found, () => `Machine ${answer.id} is ${goal}.\n`)
}

/** Looks until the machine is as wanted; undefined once it is gone. Throws CommandFailure when it never will be. */
async function waitForState(
  session: Session,
  flags: Flags,
  id: string,
  goal: Goal,
): Promise<ShownMachine | undefined> {
  const [{ createDeadline, whileAway }, { CommandFailure, EXIT, ServerRefusal }] = await Promise.all([
    import('../wait.ts'),
    import('../failure.ts'),
  ])
  const deadline = createDeadline(session.io, { timeoutMs: flags.timeout }, `machine ${id}`)
  const look = async () => {
    try {
      return await getMachine(session, flags, id)
    } catch (error) {
      if (goal === 'gone' && error instanceof ServerRefusal && error.kind === 'absent') return undefined
      throw error
    }
  }
  for (let found = await look(); ; found = await whileAway(session.io, look)) {
    if (found === undefined || found.state === goal) return found
    const isEnd = found.state === 'failed' || (goal === 'running' && found.state === 'stopped')
    if (isEnd && goal !== 'gone') {
      const why = found.reason === null ? '' : `: ${found.reason}`
      throw new CommandFailure(EXIT.fault, `Machine ${found.id} is ${found.state}${why}, not ${goal}.`)
    }
    deadline.check()
    await session.io.sleep(500)
  }
}

async function useConsole(session: Session, flags: ConsoleFlags, id: string): Promise<void> {
  const { attachConsole, followConsole, printConsole, typeIntoConsole } = await import('../console.ts')
  const { client, io } = session
  const { region, project } = flags
  const options = { path: `${machinePath(id)}/console`, query: { region, project }, fromByte: flags.from }
  if (flags.send !== undefined) await typeIntoConsole(client, options, Buffer.from(`${flags.send}\n`))
  if (session.isJson) {
    const said = await client.call<object>('GET', options.path, {
      query: { region, project, from: flags.from },
    })
    return session.print(said, () => '')
  }
  if (flags.interactive === true) return attachConsole(io, client, options)
  if (flags.follow === true) return followConsole(io, client, options, new AbortController().signal)
  await printConsole(io, client, options)
}

async function printMachines(session: Session, machines: readonly ShownMachine[]): Promise<void> {
  const [{ stateColour }, { formatBytes, formatTime }] = await Promise.all([
    import('../table.ts'),
    import('../format.ts'),
  ])
  session.print({ total: machines.length, machines }, () =>
    session.table<ShownMachine>(
      [
        { head: 'MACHINE', of: (one) => one.id },
        { head: 'NAME', of: (one) => one.name },
        { head: 'STATE', of: (one) => one.state, colour: (one) => stateColour(one.state) },
        { head: 'CPU', align: 'right', of: (one) => String(one.cpuCount) },
        { head: 'MEMORY', align: 'right', of: (one) => formatBytes(one.memoryBytes) },
        {
          head: 'DISKS',
          align: 'right',
          of: (one) => one.disks.map((disk) => formatBytes(disk.sizeBytes)).join(' + '),
        },
        { head: 'IMAGE', of: (one) => one.imageName || one.imageId },
        { head: 'ZONE', of: (one) => one.zone },
        { head: 'CREATED (UTC)', of: (one) => formatTime(one.createdAtMs) },
      ],
      machines,
      'No machines.',
    ),
  )
}

async function showMachine(session: Session, machine: ShownMachine): Promise<void> {
  const [{ formatBytes, formatTime }, { formatFacts }] = await Promise.all([
    import('../format.ts'),
    import('../facts.ts'),
  ])
  session.print(machine, () =>
    formatFacts([
      ['machine', machine.id],
      ['name', machine.name],
      ['state', machine.reason === null ? machine.state : `${machine.state}: ${machine.reason}`],
      ['zone', machine.zone],
      ['region', machine.region],
      ['project', machine.project],
      ['image', `${machine.imageId} ${machine.imageName}`],
      ['system', `${machine.osType} ${machine.osName}`],
      ['cpu', String(machine.cpuCount)],
      ['memory', formatBytes(machine.memoryBytes)],
      ['built', `${machine.firmware}, ${machine.machineType}`],
      ['type', machine.typeName],
      ['tag', machine.tag],
      ['labels', machine.labels.map(({ key, value }) => `${key}=${value}`).join(', ')],
      ...machine.disks.map(
        (disk) => [`disk ${disk.index}`, `${disk.id} ${formatBytes(disk.sizeBytes)} ${disk.bus}`] as const,
      ),
      ['created', formatTime(machine.createdAtMs)],
    ]),
  )
}
