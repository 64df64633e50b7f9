package main

import "strings"

// promised is one promise and the tests that show it.
type promised struct {
	id   string
	says string
	runs []run
}

// run is a call of go test.
type run struct {
	in    string // package
	tests string // what -run takes
}

func (r run) args() []string {
	return []string{"test", "-count=1", "-timeout=24h", "-v", "-run", r.tests, r.in}
}

func (r run) String() string { return "go " + strings.Join(r.args(), " ") }

// promises are all there are, in order. A test keeps its promise by promise.Kept.
var promises = []promised{
	{"R1", "`kill -9` while mail comes in over SMTP, submission, LMTP and APPEND loses and doubles nothing that was acknowledged.", []run{{"./test/crash", "^TestR1Kill$"}}},
	{"R2", "The same at every sync point: the Nth fsync, rename, write or unlink ends in SIGKILL.", []run{{"./test/crash", "^TestR2"}}},
	{"R3", "A power cut: what was not synced is gone, under the real binary.", []run{{"./test/power", "^TestPowerCut"}}},
	{"R4", "A power cut within the process: the whole server is simulated, and keeps 0 to 100 % of the blocks that were not synced.", []run{{"./test/sim", "^TestSim"}}},
	{"R5", "A torn write or a flipped bit in any file is found or harmless: never wrong mail, never a server that falls again and again.", []run{{"./test/integrity", "^TestR5"}}},
	{"R6", "EIO once and for ever on each kind of call: after a failed sync nothing is assumed.", []run{{"./internal/engine/pebble", "^TestR6"}, {"./test/crash", "^TestR6"}}},
	{"R7", "A full disk: 452 and NO; reading, deleting and logging in still work; it recovers without a restart.", []run{{"./test/machine", "R7$"}}},
	{"R8", "Out of file descriptors, of processes, of memory: no message is lost, and the server goes on.", []run{{"./test/machine", "R8$"}}},
	{"R9", "Clocks that jump: UIDs, modseqs and states strictly rise, retries neither storm nor freeze.", []run{{"./test/clock", "."}}},
	{"R10", "Mail to other hosts is delivered at least once, and exactly once if the peer's reply was seen.", []run{{"./test/outbound", "^TestDelivery$"}, {"./test/sim", "^TestSim$"}}},
	{"R11", "Reports: one for each recipient that failed, never one to the null sender.", []run{{"./test/outbound", "^TestReports$|^TestDelayIsToldOnce$"}}},
	{"R12", "A restart under traffic breaks no transaction; clients in IDLE are told BYE.", []run{{"./test/machine", "R12$|^TestRestart"}}},
	{"R13", "UIDVALIDITY stays, no UID is used again, no modseq falls, and what sessions see agrees.", []run{{"./test/sim", "^TestSim$"}}},
	{"R14", "IMAP and POP3 show one truth.", []run{{"./test/truth", "."}}},
	{"R15", "Everything derived can be made anew, equal byte for byte.", []run{{"./test/integrity", "^TestR15"}}},
	{"R16", "A backup in traffic, restored elsewhere, is a consistent cut.", []run{{"./internal/backup", "."}, {"./test/backup", "."}}},
	{"R17", "Data of every earlier format is read; newer data is refused.", []run{{"./test/integrity", "^TestR17"}}},
	{"R18", "10,000 idle TLS connections of IMAP cost at most 48 KiB each.", []run{{"./test/limits", "^TestR18"}}},
	{"R19", "Peers that send one byte in ten seconds, anywhere, are cut off and disturb nobody.", []run{{"./test/limits", "^TestR19"}, {"./cmd/martlet", "^TestR19"}}},
	{"R20", "A client that does not read what it asked for binds at most 256 KiB and is cut off.", []run{{"./test/limits", "^TestR20"}}},
	{"R21", "A connection costs at most 64 KiB before login, whatever it sends.", []run{{"./test/limits", "^TestR21"}, {"./cmd/martlet", "^TestR21"}}},
	{"R22", "One message of 150 MiB, 100,000 headers, depth 1,000 or 10,000 parts costs at most 32 MiB more, and time in proportion.", []run{{"./test/limits", "^TestR22"}}},
	{"R23", "The work of a command is bounded, and ends when its client leaves.", []run{{"./test/limits", "^TestR23"}}},
	{"R24", "One account at full load leaves the others 80 % of their rate.", []run{{"./test/limits", "^TestR24"}}},
	{"R25", "A queue with one dead domain does not delay the others, in bounded memory.", []run{{"./test/outbound", "^TestDeadDomain$"}}},
	{"R26", "How fast mail is taken in with every message synced, beside Postfix on the same disk.", []run{{"./test/peers", "^TestRate$"}}},
	{"R27", "Nothing leaks under mixed load: goroutines, descriptors, memory.", []run{{"./test/machine", "R27$|^TestLeaks$"}}},
	{"R33", "A certificate that is renewed drops no session; a certificate authority that is down changes nothing; there is an alarm 14 days before the end.", []run{{"./cmd/martlet", "^TestACME$|^TestComplaint$"}}},
	{"R34", "`martlet verify` finds all silent damage.", []run{{"./test/integrity", "R34"}}},
	{"R35", "A panic in one session ends that session alone.", []run{{"./test/isolation", "^TestPanic|^TestAttack49"}, {"./cmd/martlet", "^TestUnit"}}},
}
