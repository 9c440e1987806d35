import { serveExaminer } from './examiner-loop.ts'
import { SKILLS } from './volumes.ts'

/**
 * The examiner's own process: `examiner-main.ts MARK NAME…`, where MARK is a path by which it is told apart from others of
 * its number, and each NAME that of a disk's export. It holds nothing but sockets to those; see `isolation.ts` for what it may not do.
 */
await serveExaminer(process.argv.slice(3), SKILLS)
