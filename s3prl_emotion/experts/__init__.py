"""The base classes that heads subclass, and the parts that heads share."""
