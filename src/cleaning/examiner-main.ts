import { serveExaminer } from './examiner-loop.ts'
import { SKILLS } from './volumes.ts'

/**
 * The examiner's own process: `examiner-main.ts MARK DISKS`, where MARK is a path by which it is told apart from others of
 * its number. It holds nothing but sockets to overlays; see `isolation.ts` for what it may not do.
 */
await serveExaminer(Number(process.argv[3]), SKILLS)
