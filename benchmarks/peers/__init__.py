"""What our losses are compared with, a library a file: functions that return a value to differentiate."""
