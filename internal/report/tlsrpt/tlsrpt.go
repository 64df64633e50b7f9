// Package tlsrpt reads and writes TLS reports: a JSON file in which a sender tells a domain
// over how many connections its mail came as its policy asks, and which failed and why. It
// reads the record by which a domain asks for them, too.
//
// What it reads is a stranger's: its text and numbers are bounded. It opens no archives and
// sends nothing.
//
// RFC 8460, 3 and 4.
package tlsrpt

import "time"

// Report is one report.
type Report struct {
	Organization string
	Contact      string // address
	ID           string
	Begin, End   time.Time
	Policies     []Policy
	More         int // policies and failures that were left out: there were too many
}

// Policy is what was found of one policy.
type Policy struct {
	Type    string   // tlsa, sts or no-policy-found
	Strings []string // the policy
	Domain  string   // whose policy
	Hosts   []string // patterns of an MTA-STS policy

	Successes, Failed uint64 // sessions
	Failures          []Failure
}

// Failure is a kind of failure and how often it was met.
type Failure struct {
	Result      string // RFC 8460, 4.3
	Sending     string // address
	Host        string // of the receiver, by its MX record
	Helo        string
	Receiving   string // address
	Sessions    uint64
	Information string // URI
	Reason      string // text for people
}
