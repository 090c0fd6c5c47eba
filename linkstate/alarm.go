package linkstate

import (
	"fmt"
	"time"
)

// The alarm codes. They are stable: dashboards and tests name them.
const (
	AlarmDuplicateNode  = "duplicate_node"  // a neighbour calls itself by our name
	AlarmWrongDomain    = "wrong_domain"    // a hello of another flooding scope
	AlarmUnexpectedNode = "unexpected_node" // another node, or another role, than configured answers
	AlarmUnexpectedLink = "unexpected_link" // a link we have not configured, or another link id

	AlarmOtherAlgorithm       = "other_algorithm"       // a node means something else by its metrics
	AlarmConflict             = "conflicting_records"   // one order, two bodies
	AlarmOwnRecordNewer       = "own_record_newer"      // a record of ours is newer than what we sent
	AlarmIncarnationExhausted = "incarnation_exhausted" // no incarnation is left to outdo an own record

	AlarmUnknownType      = "unknown_type"       // flooded on, not understood
	AlarmUndecodable      = "undecodable_record" // of a known type; flooded on, not understood
	AlarmMalformedRecord  = "malformed_record"   // refused
	AlarmRecordTooLarge   = "record_too_large"   // refused, or not originated
	AlarmDatabaseFull     = "database_full"      // a new record is refused
	AlarmTooManyRecords   = "too_many_records"   // of one origin; those with the highest keys do not count
	AlarmClock            = "clock"              // records that end too late or ended too early; our own clock was set
	AlarmDifference       = "lasting_difference" // a neighbour holds other records after all were exchanged
	AlarmObserverRecord   = "observer_record"    // an observer sent a record; refused
	AlarmMalformedMessage = "malformed_message"  // ignored
	AlarmBadEvent         = "bad_event"          // a local event made no sense; ignored
)

// Alarms are bounded whatever neighbours do: a burst of each code, then one a
// second. maxTopics bounds what alarmOnce remembers.
const (
	alarmBurst = 32
	maxTopics  = 4096
)

// siren is the token bucket of one alarm code.
type siren struct {
	tokens  float64
	at      time.Time
	omitted int
}

func (i *Instance) alarm(code, format string, args ...any) {
	s := i.sirens[code]
	if s == nil {
		s = &siren{tokens: alarmBurst, at: i.now}
		i.sirens[code] = s
	}
	s.tokens = min(alarmBurst, s.tokens+i.now.Sub(s.at).Seconds())
	s.at = i.now
	if s.tokens < 1 {
		s.omitted++
		return
	}
	s.tokens--
	text := fmt.Sprintf(format, args...)
	if s.omitted > 0 {
		text = fmt.Sprintf("%s (%d more were left out)", text, s.omitted)
		s.omitted = 0
	}
	i.ready.Alarms = append(i.ready.Alarms, Alarm{Code: code, Text: text})
}

// alarmOnce raises an alarm once per topic in the life of the Instance, and
// again when there are more topics than can be remembered.
func (i *Instance) alarmOnce(topic, code, format string, args ...any) {
	topic = code + " " + topic
	if _, said := i.alarmed[topic]; said {
		return
	}
	if len(i.alarmed) == maxTopics {
		clear(i.alarmed)
	}
	i.alarmed[topic] = struct{}{}
	i.alarm(code, format, args...)
}
