package node

import "slices"

// standing raises an alarm that is true until further notice. Other words replace
// it, and none clear it.
func (n *Node) standing(code, text string) {
	l := &n.loop
	if l.standing[code] == text {
		return
	}
	l.alarms = slices.DeleteFunc(slices.Clone(l.alarms), func(a AlarmStatus) bool { return a.Code == code })
	if text == "" {
		delete(l.standing, code)
		n.metrics.standing.WithLabelValues(code).Set(0)
		n.log.Info("alarm is cleared", "code", code)
		return
	}
	if l.standing == nil {
		l.standing = map[string]string{}
	}
	l.standing[code] = text
	n.metrics.standing.WithLabelValues(code).Set(1)
	n.noteAlarm(code, text)
	n.log.Error("alarm", "code", code, "err", text)
}
