// Package authres writes, reads and removes Authentication-Results fields: how a host
// tells its own users' programs what it has checked of a message.
//
// A field is only worth something if nobody else can have written it: fields that bear
// our name are taken out of what comes in.
//
// RFC 8601.
package authres

// Field is one Authentication-Results field.
type Field struct {
	ID      string // of the host that checked: authserv-id
	Version string // "" is 1
	Results []Result
}

// Result is what one method has found (RFC 8601, 2.2, resinfo).
type Result struct {
	Method  string // spf, dkim, dmarc, arc, iprev ...
	Version string // "" is 1
	Value   string // none, pass, fail ...
	Reason  string // reason= ; "" is none
	Comment string // in parentheses after the value; "" is none
	Props   []Property
}

// Property says what a result is about (RFC 8601, 2.2, propspec).
type Property struct {
	Type  string // smtp, header, body, policy
	Name  string
	Value string
}
