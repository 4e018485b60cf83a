"""Messages that neither TensorFlow's nor TensorFlow Serving's Python packages contain, compiled from the files here.

Configuration: ``SSLConfig``, ``MonitoringConfig``, ``SessionBundleConfig`` with ``BatchingParameters``, the adapter
messages of a ``PlatformConfigMap``; and the profiler service. Importing them does not import TensorFlow.
``python -m serving.proto.generate`` recompiles them.
"""
