package queue

import (
	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/record"
)

// NewestRecord is the version of records that this version of the program knows.
const NewestRecord = messageVersion

// BodyOf returns the blob that a record of the queue's shard names, zero if none, and
// whether the record is that of a message. Faults: Corrupt.
func BodyOf(key, value []byte) (body mail.BlobRef, isMessage bool, err error) {
	if len(key) != 9 || key[0] != famMessage {
		return body, false, nil
	}
	m, err := decodeMessage(ID(engine.Num(key, 0)), value)
	if err != nil {
		return body, true, err
	}
	return m.blob, true, nil
}

// Sealing tells where the checksum of a record of the queue's shard lies.
func Sealing(key, _ []byte) record.Sealing {
	switch key[0] {
	case famPiece:
		return record.Part
	case famWaiting, famTurn, famDue, famAlarm:
		return record.Bare
	}
	return record.Sealed
}
