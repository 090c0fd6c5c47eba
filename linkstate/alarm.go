package linkstate

import "fmt"

// The alarm codes. They are stable: dashboards and tests name them.
const (
	AlarmDuplicateNode   = "duplicate_node"   // a neighbour calls itself by our name
	AlarmWrongDomain     = "wrong_domain"     // a hello of another flooding scope
	AlarmUnexpectedNode  = "unexpected_node"  // another node, or another role, than configured answers
	AlarmUnexpectedLink  = "unexpected_link"  // a link we have not configured, or another link id
	AlarmUnexpectedProbe = "unexpected_probe" // another node's Envoy answered a probe

	AlarmFlappingLink         = "flapping_link"         // its return is held back
	AlarmOtherAlgorithm       = "other_algorithm"       // a node means something else by its metrics
	AlarmConflict             = "conflicting_records"   // one order, two bodies
	AlarmOwnRecordNewer       = "own_record_newer"      // a record of ours is newer than what we sent
	AlarmIncarnationExhausted = "incarnation_exhausted" // no incarnation is left to outdo an own record

	AlarmUnknownType      = "unknown_type"       // flooded on, not understood
	AlarmUndecodable      = "undecodable_record" // of a known type; flooded on, not understood
	AlarmMalformedRecord  = "malformed_record"   // refused
	AlarmRecordTooLarge   = "record_too_large"   // refused, or not originated
	AlarmObserverRecord   = "observer_record"    // an observer sent a record; refused
	AlarmMalformedMessage = "malformed_message"  // ignored
	AlarmBadEvent         = "bad_event"          // a local event made no sense; ignored
)

func (i *Instance) alarm(code, format string, args ...any) {
	i.ready.Alarms = append(i.ready.Alarms, Alarm{Code: code, Text: fmt.Sprintf(format, args...)})
}

// alarmOnce raises an alarm once per topic in the life of the Instance.
func (i *Instance) alarmOnce(topic, code, format string, args ...any) {
	topic = code + " " + topic
	if _, said := i.alarmed[topic]; said {
		return
	}
	i.alarmed[topic] = struct{}{}
	i.alarm(code, format, args...)
}
