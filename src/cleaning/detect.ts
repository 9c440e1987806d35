import { rm } from 'node:fs/promises'
import { type DiskFinding, type FoundSystem, joinFindings } from '../guest/found-system.ts'
import type { NbdExport } from './contract.ts'
import { Examiner, type ExaminerOptions } from './examiner.ts'
import { parseFinding } from './examiner-answers.ts'

export interface Detection extends Pick<ExaminerOptions, 'pidPath' | 'entryPath' | 'isolation'> {
  readonly disks: readonly NbdExport[]
  /** For all disks together. */
  readonly askMs: number
  readonly memoryBytes: number
  /** Gets why disks say nothing. */
  readonly onFailure: (error: unknown) => void
}

/** No finding is longer. */
const ANSWER_BYTES = 64 * 1024

/**
 * Asks an examiner of its own for the system on disks, one after the other, until one has it. A disk that brings it down, or
 * takes too long, and those behind it say nothing. Throws the signal's reason, and what keeps an examiner from being started.
 */
export async function detectSystem(detection: Detection, signal: AbortSignal): Promise<FoundSystem> {
  const { disks, askMs, memoryBytes, onFailure, ...options } = detection
  const bounded = AbortSignal.any([signal, AbortSignal.timeout(askMs)])
  const limits = { askMs, memoryBytes, answerBytes: ANSWER_BYTES }
  const findings: DiskFinding[] = []
  try {
    const examiner = await Examiner.start({ ...options, disks, limits, signal: bounded })
    try {
      for (const disk of disks.keys()) {
        const finding = await examiner.ask({ is: 'detect', disk }, parseFinding)
        findings.push(finding)
        if (finding.isSystem) break
      }
    } catch (error) {
      signal.throwIfAborted()
      onFailure(error)
    } finally {
      await examiner.end()
    }
  } finally {
    await rm(detection.pidPath, { force: true })
  }
  return joinFindings(findings)
}
