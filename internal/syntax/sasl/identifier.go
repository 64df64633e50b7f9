package sasl

// PrepareIdentifier brings a user name of an access control list to the form that logins
// are compared in (RFC 4314, 3). What is empty or cannot be prepared is Invalid.
func PrepareIdentifier(name string) (string, error) { return prepareLogin(name) }
