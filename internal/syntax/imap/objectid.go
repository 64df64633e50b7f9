package imap

// ObjectID is the parameter of SELECT that asks for object ids and may say by them which
// mailbox is meant (draft-ietf-mailmaint-imap-objectid-bis).
type ObjectID struct {
	Mailbox string // MAILBOXID, "" if it was not given
	Account string // ACCOUNTID, likewise
}

// selectObjectID reads what follows OBJECTID among the parameters of SELECT: ids, the
// next parameter or nothing.
func (d *Decoder) selectObjectID(s *Select) bool {
	var o ObjectID
	s.ObjectID = &o
	if !d.SP() {
		return true
	}
	switch c, _ := d.peek(); c {
	case '(':
		return d.List(func() bool { return d.objectID(&o) })
	case ')': // a space too many
		return true
	}
	return d.count() && d.selectParam(s)
}

// objectID reads a kind of id and the id. Kinds that are not known are passed over.
func (d *Decoder) objectID(o *ObjectID) bool {
	var kind, id string
	if !d.ExpectWord(&kind, "the kind of an object id") || !d.ExpectSP() || !d.ExpectAtom(&id) {
		return false
	}
	switch kind {
	case "MAILBOXID":
		o.Mailbox = id
	case "ACCOUNTID":
		o.Account = id
	}
	return true
}
