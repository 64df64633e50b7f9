package report

// maxInbox is how many messages wait to be read as reports.
const maxInbox = 64

// letter is one of them.
type letter struct{}
